// conv2d_max_pool2d on CUDA: convolution, bias, activation and max-pooling in one op. What backward needs of all that
// lies between is one byte per pooled value: the winning tap, or kDeadTap where ReLU stopped the gradient.
#include <tuple>

#include "common/box.h"
#include "common/pool2d_check.h"
#include "cuda/conv2d.h"
#include "cuda/max_pool2d_op.h"

namespace convkit::cuda {
namespace {

using Ints = std::vector<int64_t>;

constexpr const char* kOp = "conv2d_max_pool2d";

// Pooled float32 products have small tiles: beyond this depth, large tiles and a pass over the result take less time.
constexpr int64_t kFusedDepth = 320;

// Whether the convolution's own kernel should pool.
bool fuses(const Conv2dCall& call, const Pool2dShape& pool, const Tensor& input) {
  const StreamGuard guard(input);  // the choice looks at the current device
  const auto unit = gemm_unit(call.algorithm, input.scalar_type());
  if (call.algorithm == Conv2dAlgorithm::kGeneric)  // where no window lies over another
    return pool.stride_h >= pool.kh && pool.stride_w >= pool.kw;
  if (!unit || uses_wgmma(*unit, call.shape, input)) return false;
  const bool shallow = call.shape.group_ic() * call.shape.kh * call.shape.kw <= kFusedDepth;
  const bool is_2x2 = pool.kh == 2 && pool.kw == 2 && pool.stride_h == 2 && pool.stride_w == 2;
  return is_2x2 && pool.pad_h == 0 && pool.pad_w == 0 && (shallow || *unit == GemmUnit::kTensor16);
}

void run_fused(const Conv2dCall& call, const Pool2dShape& pool, const Tensor& input, const Tensor& weight,
               const std::optional<Tensor>& bias, const Tensor& output, const Tensor* taps) {
  const StreamGuard guard(input);
  if (const auto unit = gemm_unit(call.algorithm, input.scalar_type())) {
    const GemmEpilogue epilogue{bias, call.relu, true, call.channels_last, taps};
    return forward_gemm_into({kOp, call.shape, *unit, guard.stream()}, input, weight, epilogue, output);
  }
  dispatch_floating(kOp, input.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const Conv2dGenericPool<T> fused{generic_conv2d<T>(call, input, weight, bias), pool, view<T>(output),
                                     taps ? data<uint8_t>(*taps) : nullptr, call.channels_last};
    check_launch(kOp, launch_conv2d_generic_max_pool2d(fused, guard.stream()));
  });
}

std::tuple<Tensor, Tensor> conv2d_max_pool2d(const Tensor& input, const Tensor& weight,
                                             const std::optional<Tensor>& bias, const Ints& stride, const Ints& padding,
                                             const Ints& dilation, int64_t groups, const std::string& activation,
                                             const Ints& pool_kernel_size, const Ints& pool_stride,
                                             const Ints& pool_padding, bool return_taps, const std::string& algorithm) {
  const Conv2dCall call =
      prepare_conv2d(kOp, input, weight, bias, {stride, padding, dilation, groups}, activation, algorithm);
  const Conv2dShape& s = call.shape;
  const int64_t conv_sizes[] = {s.n, s.oc, s.oh, s.ow};
  const Ints pool_dilation{1, 1};
  const Pool2dShape pool =
      make_pool2d_shape(kOp, {conv_sizes, 4}, {pool_kernel_size, pool_stride, pool_padding, pool_dilation});
  CONVKIT_CHECK(pool.area() < kDeadTap, kOp, ": a pooling window of ", pool.area(), " positions has no byte taps");
  const int64_t sizes[] = {pool.n, pool.c, pool.oh, pool.ow};
  const int64_t none = 0;
  const Tensor output = empty({sizes, 4}, call.channels_last, input.scalar_type(), input);
  const Tensor taps = return_taps ? empty({sizes, 4}, call.channels_last, ScalarType::Byte, input)
                                  : empty({&none, 1}, false, ScalarType::Byte, input);
  if (output.numel() == 0) return {output, taps};
  const Tensor* wanted = return_taps ? &taps : nullptr;
  if (fuses(call, pool, input))
    run_fused(call, pool, input, weight, bias, output, wanted);
  else
    max_pool2d_forward(kOp, {pool, call.channels_last, call.relu}, run_conv2d(call, input, weight, bias), output,
                       wanted);
  return {output, taps};
}

}  // namespace
}  // namespace convkit::cuda

CONVKIT_CUDA_OPS(m) { m.impl("conv2d_max_pool2d", CONVKIT_BOX_STRINGS(&convkit::cuda::conv2d_max_pool2d)); }
