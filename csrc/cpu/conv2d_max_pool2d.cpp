// conv2d_max_pool2d on the CPU: convolution, bias, activation and max-pooling in one op. What backward needs of all
// that lies between is one byte per pooled value: the winning tap, or kDeadTap where ReLU stopped the gradient.
#include <tuple>

#include "common/box.h"
#include "common/pool2d_check.h"
#include "common/tensor_view.h"
#include "cpu/conv2d.h"
#include "cpu/conv2d_blocking.h"
#include "cpu/conv2d_winograd.h"
#include "cpu/generic/max_pool2d.h"
#include "cpu/isa.h"
#include "cpu/max_pool2d.h"
#include "cpu/workspace.h"

namespace convkit {
namespace {

using Ints = std::vector<int64_t>;

constexpr const char* kOp = "conv2d_max_pool2d";

// Whether the tasks of the convolution can pool what they compute.
bool can_pool(const Conv2dCall& call, ScalarType dtype, const Pool2dShape& pool) {
  const bool bfloat16 = dtype == ScalarType::BFloat16;
  if (!takes_dtype(call.algorithm, {Conv2dDirection::kForward, call.shape, dtype}) ||
      (dtype != ScalarType::Float && !bfloat16))
    return false;
  if (call.algorithm == Conv2dAlgorithm::kWinograd) return can_pool_tiles(call.shape, pool);
  if (call.algorithm != Conv2dAlgorithm::kDirect) return false;
  const Conv2dBlocking b =
      conv2d_blocking(call.shape, kernels().conv2d_direct, {Conv2dSums::kScratch, &pool, bfloat16});
  return can_pool_bands(b, pool) && b.scratch_bytes() <= kWorkspaceLimit;
}

template <typename T>
void run_fused(const Conv2dCall& call, const Pool2dShape& pool, const Tensor& input, const Tensor& weight,
               const std::optional<Tensor>& bias, const Tensor& output, const Tensor* taps) {
  const Conv2dPool<T> fused{pool, view<T>(output), taps ? data<uint8_t>(*taps) : nullptr,
                            call.activation == Activation::kRelu};
  run_conv2d_of<T>(call, input, weight, bias, {}, &fused);
}

// One op after the other.
void run_composed(const Conv2dCall& call, const Pool2dShape& pool_shape, const Tensor& input, const Tensor& weight,
                  const std::optional<Tensor>& bias, const Tensor& output, const Tensor* taps) {
  max_pool2d_forward(pool_shape, run_conv2d(call, input, weight, bias), output, taps);
  if (!taps || call.activation == Activation::kNone) return;
  dispatch_floating(kOp, output.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* value = data<T>(output);
    uint8_t* tap = data<uint8_t>(*taps);
    for (int64_t i = 0; i < output.numel(); ++i)
      if (value[i] <= T(0)) tap[i] = kDeadTap;
  });
}

std::tuple<Tensor, Tensor> conv2d_max_pool2d(const Tensor& input, const Tensor& weight,
                                             const std::optional<Tensor>& bias, const Ints& stride, const Ints& padding,
                                             const Ints& dilation, int64_t groups, const std::string& activation,
                                             const Ints& pool_kernel_size, const Ints& pool_stride,
                                             const Ints& pool_padding, bool return_taps, const std::string& algorithm) {
  const Conv2dCall call =
      prepare_conv2d(kOp, input, weight, bias, {stride, padding, dilation, groups}, activation, algorithm);
  return run_conv2d_max_pool2d(call, input, weight, bias, pool_kernel_size, pool_stride, pool_padding, return_taps);
}

}  // namespace

std::tuple<Tensor, Tensor> run_conv2d_max_pool2d(const Conv2dCall& call, const Tensor& input, const Tensor& weight,
                                                 const std::optional<Tensor>& bias, const Ints& pool_kernel_size,
                                                 const Ints& pool_stride, const Ints& pool_padding, bool return_taps) {
  const int64_t conv_sizes[] = {call.shape.n, call.shape.oc, call.shape.oh, call.shape.ow};
  const Ints pool_dilation{1, 1};
  const Pool2dShape pool =
      make_pool2d_shape(kOp, {conv_sizes, 4}, {pool_kernel_size, pool_stride, pool_padding, pool_dilation});
  CONVKIT_CHECK(call.activation != Activation::kRelu6, kOp, ": activation must be 'none' or 'relu', but got 'relu6'");
  CONVKIT_CHECK(pool.area() < kDeadTap, kOp, ": a pooling window of ", pool.area(), " positions has no byte taps");
  const int64_t sizes[] = {pool.n, pool.c, pool.oh, pool.ow};
  const int64_t none = 0;
  const Tensor output = empty({sizes, 4}, call.channels_last, input.scalar_type(), input);
  const Tensor taps = return_taps ? empty({sizes, 4}, call.channels_last, ScalarType::Byte, input)
                                  : empty({&none, 1}, false, ScalarType::Byte, input);
  const Tensor* wanted = return_taps ? &taps : nullptr;
  if (output.numel() == 0) return {output, taps};
  const auto run = !can_pool(call, input.scalar_type(), pool)    ? run_composed
                   : input.scalar_type() == ScalarType::BFloat16 ? run_fused<BFloat16>
                                                                 : run_fused<float>;
  run(call, pool, input, weight, bias, output, wanted);
  return {output, taps};
}

}  // namespace convkit

STABLE_TORCH_LIBRARY_IMPL(convkit, CPU, m) {
  m.impl("conv2d_max_pool2d", CONVKIT_BOX_STRINGS(&convkit::conv2d_max_pool2d));
}
