// conv2d on CUDA: checks, chooses the algorithm, allocates, launches.
#include "cuda/conv2d.h"

#include "common/activation_check.h"
#include "common/box.h"
#include "cuda/conv2d_depthwise_op.h"
#include "cuda/conv2d_grouped_op.h"

namespace convkit::cuda {
namespace {

using Ints = std::vector<int64_t>;

Tensor conv2d(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, const Ints& stride,
              const Ints& padding, const Ints& dilation, int64_t groups, const std::string& activation,
              const std::string& algorithm) {
  const Conv2dCall call =
      prepare_conv2d("conv2d", input, weight, bias, {stride, padding, dilation, groups}, activation, algorithm);
  return run_conv2d(call, input, weight, bias);
}

}  // namespace

Conv2dCall prepare_conv2d(const char* op, const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                          const Conv2dArguments& arguments, const std::string& activation,
                          const std::string& algorithm) {
  check_devices(op, {&input, &weight});
  if (bias) check_devices(op, {&input, &*bias});
  const Conv2dShape s = make_conv2d_shape(op, input.sizes(), weight.sizes(), arguments);
  check_same_kind(op, "input", input, "weight", weight);
  if (bias) check_bias(op, *bias, weight);
  const bool relu = is_relu(op, activation);
  const bool channels_last = input.numel() > 0 && (suggests_channels_last(input) || suggests_channels_last(weight));
  const Conv2dProblem problem{Conv2dDirection::kForward, s, input.scalar_type()};
  const StreamGuard guard(input);  // the choice looks at the current device
  return {op, s, select_algorithm(op, problem, algorithm), channels_last, relu};
}

Tensor run_conv2d(const Conv2dCall& call, const Tensor& input, const Tensor& weight,
                  const std::optional<Tensor>& bias) {
  const Conv2dShape& s = call.shape;
  const int64_t sizes[] = {s.n, s.oc, s.oh, s.ow};
  const Tensor output = empty({sizes, 4}, call.channels_last, input.scalar_type(), input);
  if (output.numel() == 0) return output;
  if (call.algorithm == Conv2dAlgorithm::kDepthwise) {
    conv2d_depthwise(call, input, weight, bias, output);
    return output;
  }
  if (call.algorithm == Conv2dAlgorithm::kGrouped) {
    conv2d_grouped(call, input, weight, bias, output);
    return output;
  }
  const StreamGuard guard(input);
  if (const auto unit = gemm_unit(call.algorithm, input.scalar_type())) {
    forward_gemm_into({call.op, s, *unit, guard.stream()}, input, weight, {bias, call.relu}, output);
    return output;
  }
  dispatch_floating(call.op, input.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    check_launch(call.op,
                 launch_conv2d_generic(generic_conv2d<T>(call, input, weight, bias), view<T>(output), guard.stream()));
  });
  return output;
}

}  // namespace convkit::cuda

CONVKIT_CUDA_OPS(m) { m.impl("conv2d", CONVKIT_BOX_STRINGS(&convkit::cuda::conv2d)); }
