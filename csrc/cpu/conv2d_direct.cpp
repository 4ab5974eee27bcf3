#include "cpu/conv2d_direct.h"

#include "common/int_math.h"
#include "cpu/conv2d_blocking.h"
#include "cpu/conv2d_phases.h"
#include "cpu/conv2d_pointwise.h"
#include "cpu/conv2d_tasks.h"
#include "cpu/isa.h"

namespace convkit {
namespace {

constexpr int64_t kSharedBytes = int64_t{16} << 20;  // of packed weights

}  // namespace

bool multiplies_bfloat16_pairs() { return kernels().conv2d_direct.of.bfloat16.forward != nullptr; }

template <typename T>
void conv2d_direct(const Conv2dShape& shape, const View4d<const T>& input, const View4d<const T>& weight,
                   int64_t weight_group_stride, const View4d<T>& output, const Conv2dEpilogue<T>& epilogue,
                   const float* packed_weight) {
  const Conv2dDirectKernels& kernel = kernels().conv2d_direct;
  const Conv2dDirectFunctions<T>& functions = kernel.of.template get<T>();
  Conv2dDirect<T> conv{.shape = shape,
                       .input = input,
                       .weight = weight,
                       .weight_group_stride = weight_group_stride,
                       .packed_weight = packed_weight,
                       .bias = epilogue.bias,
                       .output = output,
                       .activation = epilogue.activation,
                       .pool = epilogue.pool};
  drop_skipped_pixels(conv.shape, conv.input);
  if (!epilogue.pool) join_rows(conv.shape, conv.input, output);
  Conv2dShape& s = conv.shape;
  const Conv2dSums sums = conv2d_sums(conv.shape, epilogue.pool ? epilogue.pool->output : output, epilogue.pool);
  const Pool2dShape* pool = epilogue.pool ? &epilogue.pool->shape : nullptr;
  conv.blocking = conv2d_blocking(conv.shape, kernel, {sums, pool, is_bfloat16<T>});
  // Weights that several tasks need are packed once for all of them, if they fit in cache.
  const int64_t users = s.n * conv.blocking.row_bands * conv.blocking.col_bands;
  const int64_t packed_bytes = conv.weight_blocks() * conv.block_floats() * 4;
  if (!packed_weight && sums != Conv2dSums::kPlanes && users > 1 && packed_bytes <= kSharedBytes) {
    float* const packed = static_cast<float*>(shared_workspace(packed_bytes));
    CONVKIT_CHECK(packed, "conv2d: no memory for ", packed_bytes, " bytes of workspace");
    pack_blocks(conv, functions.pack_weight, packed);
    conv.packed_weight = packed;
  }
  run_tasks(conv, functions.forward);
}

Conv2dDirect<float> conv2d_direct_packing(const Conv2dShape& shape, const View4d<const float>& weight,
                                          int64_t weight_group_stride) {
  return {.shape = shape,
          .blocking = conv2d_blocking(shape, kernels().conv2d_direct, {}),
          .weight = weight,
          .weight_group_stride = weight_group_stride};
}

template <typename T>
void conv2d_direct_backward_input(const Conv2dShape& s, const View4d<const T>& grad_output,
                                  const View4d<const T>& weight, const View4d<T>& grad_input) {
  for_each_phase<T>(s, weight, grad_input,
                    [&](const Conv2dShape& phase, const View4d<const T>& rotated, const View4d<T>& pixels) {
                      conv2d_direct<T>(phase, grad_output, rotated, s.group_oc() * weight.n, pixels, {});
                    });
}

#define CONVKIT_DIRECT(T)                                                                                        \
  template void conv2d_direct(const Conv2dShape&, const View4d<const T>&, const View4d<const T>&, int64_t,       \
                              const View4d<T>&, const Conv2dEpilogue<T>&, const float*);                         \
  template void conv2d_direct_backward_input(const Conv2dShape&, const View4d<const T>&, const View4d<const T>&, \
                                             const View4d<T>&);
CONVKIT_DIRECT(float)
CONVKIT_DIRECT(BFloat16)
#undef CONVKIT_DIRECT

void conv2d_direct_backward_weight(const Conv2dShape& shape, const View4d<const float>& input,
                                   const View4d<const float>& grad_output, const View4d<float>& grad_weight) {
  const Conv2dDirectKernels& kernel = kernels().conv2d_direct;
  Conv2dBackwardWeight conv{.shape = shape,
                            .input = input,
                            .grad_output = grad_output,
                            .grad_weight = grad_weight,
                            .split_stride = shape.oc * shape.group_ic() * shape.kh * shape.kw};
  drop_skipped_pixels(conv.shape, conv.input);
  join_rows(conv.shape, conv.input, grad_output);
  conv.blocking = conv2d_backward_weight_blocking(conv.shape, kernel);
  const bool planes = conv.blocking.tile == BackwardWeightTile::kPlanes;
  run_split_tasks(conv, planes ? kernel.backward_weight_planes : kernel.backward_weight);
}

}  // namespace convkit
