// The gradients of conv2d on CUDA: conv2d_backward_input, conv2d_backward_weight, conv2d_backward_bias.
#include "common/box.h"
#include "common/conv2d_check.h"
#include "common/tensor_view.h"
#include "cuda/bias.h"
#include "cuda/conv2d_depthwise_op.h"
#include "cuda/conv2d_grouped_op.h"

namespace convkit::cuda {
namespace {

using Ints = std::vector<int64_t>;

IntHeaderOnlyArrayRef sizes_of(const Ints& sizes) { return {sizes.data(), sizes.size()}; }

Tensor conv2d_backward_input(const Tensor& grad_output, const Tensor& weight, const Ints& input_size,
                             bool channels_last, const Ints& stride, const Ints& padding, const Ints& dilation,
                             int64_t groups, const std::string& algorithm) {
  constexpr const char* kOp = "conv2d_backward_input";
  check_devices(kOp, {&grad_output, &weight});
  const Conv2dShape s =
      make_conv2d_shape(kOp, sizes_of(input_size), weight.sizes(), {stride, padding, dilation, groups});
  check_same_kind(kOp, "grad_output", grad_output, "weight", weight);
  check_grad_output(kOp, grad_output, s);
  const ScalarType dtype = weight.scalar_type();
  const StreamGuard guard(weight);  // the choice looks at the current device
  const auto chosen = select_algorithm(kOp, {Conv2dDirection::kBackwardInput, s, dtype}, algorithm);
  const Tensor grad_input = empty(sizes_of(input_size), channels_last, dtype, weight);
  if (grad_input.numel() == 0) return grad_input;
  if (chosen == Conv2dAlgorithm::kDepthwise) {
    conv2d_depthwise_backward_input(kOp, s, grad_output, weight, grad_input);
    return grad_input;
  }
  if (chosen == Conv2dAlgorithm::kGrouped) {
    conv2d_grouped_backward_input(kOp, s, grad_output, weight, grad_input);
    return grad_input;
  }
  if (const auto unit = gemm_unit(chosen, dtype)) {
    backward_input_gemm_into({kOp, s, *unit, guard.stream()}, grad_output, weight, grad_input);
    return grad_input;
  }
  dispatch_floating(kOp, dtype, [&](auto zero) {
    using T = decltype(zero);
    check_launch(kOp, launch_conv2d_generic_backward_input(s, const_view<T>(grad_output), const_view<T>(weight),
                                                           view<T>(grad_input), guard.stream()));
  });
  return grad_input;
}

Tensor conv2d_backward_weight(const Tensor& grad_output, const Tensor& input, const Ints& weight_size,
                              bool channels_last, const Ints& stride, const Ints& padding, const Ints& dilation,
                              int64_t groups, const std::string& algorithm) {
  constexpr const char* kOp = "conv2d_backward_weight";
  check_devices(kOp, {&grad_output, &input});
  const Conv2dShape s =
      make_conv2d_shape(kOp, input.sizes(), sizes_of(weight_size), {stride, padding, dilation, groups});
  check_same_kind(kOp, "grad_output", grad_output, "input", input);
  check_grad_output(kOp, grad_output, s);
  const ScalarType dtype = input.scalar_type();
  const StreamGuard guard(input);  // the choice looks at the current device
  const auto chosen = select_algorithm(kOp, {Conv2dDirection::kBackwardWeight, s, dtype}, algorithm);
  const Tensor grad_weight = empty(sizes_of(weight_size), channels_last, dtype, input);
  if (grad_weight.numel() == 0) return grad_weight;
  if (chosen == Conv2dAlgorithm::kDepthwise) {
    conv2d_depthwise_backward_weight(kOp, s, grad_output, input, grad_weight);
    return grad_weight;
  }
  if (chosen == Conv2dAlgorithm::kGrouped) {
    conv2d_grouped_backward_weight(kOp, s, grad_output, input, grad_weight);
    return grad_weight;
  }
  if (const auto unit = gemm_unit(chosen, dtype)) {
    backward_weight_gemm_into({kOp, s, *unit, guard.stream()}, grad_output, input, grad_weight);
    return grad_weight;
  }
  dispatch_floating(kOp, dtype, [&](auto zero) {
    using T = decltype(zero);
    check_launch(kOp, launch_conv2d_generic_backward_weight(s, const_view<T>(grad_output), const_view<T>(input),
                                                            view<T>(grad_weight), guard.stream()));
  });
  return grad_weight;
}

Tensor conv2d_backward_bias(const Tensor& grad_output) {
  constexpr const char* kOp = "conv2d_backward_bias";
  check_devices(kOp, {&grad_output});
  CONVKIT_CHECK(grad_output.dim() == 4, kOp, ": expected a 4D grad_output, but got size ",
                format_sizes(grad_output.sizes()));
  const int64_t n = grad_output.size(0), c = grad_output.size(1), h = grad_output.size(2), w = grad_output.size(3);
  const ScalarType dtype = grad_output.scalar_type();
  const Tensor grad_bias = empty({&c, 1}, false, dtype, grad_output);
  if (c == 0) return grad_bias;
  const StreamGuard guard(grad_output);
  const int64_t parts = channel_sum_parts(n, c, h, w), sizes[] = {parts, c};
  const ScalarType wide = dtype == ScalarType::Double ? dtype : ScalarType::Float;
  const Tensor partial = parts > 1 ? empty({sizes, 2}, false, wide, grad_output) : grad_bias;
  dispatch_floating(kOp, dtype, [&](auto zero) {
    using T = decltype(zero);
    using Partial = typename ChannelSums<T>::Partial;
    Partial* workspace = parts > 1 ? data<Partial>(partial) : nullptr;
    const ChannelSums<T> problem{n, c, h, w, const_view<T>(grad_output), data<T>(grad_bias), workspace, parts};
    check_launch(kOp, launch_channel_sums(problem, guard.stream()));
  });
  return grad_bias;
}

}  // namespace
}  // namespace convkit::cuda

CONVKIT_CUDA_OPS(m) {
  m.impl("conv2d_backward_input", CONVKIT_BOX_STRINGS(&convkit::cuda::conv2d_backward_input));
  m.impl("conv2d_backward_weight", CONVKIT_BOX_STRINGS(&convkit::cuda::conv2d_backward_weight));
  m.impl("conv2d_backward_bias", TORCH_BOX(&convkit::cuda::conv2d_backward_bias));
}
