// conv2d on the CPU: checks, chooses the algorithm, allocates, runs.
#include "cpu/generic/conv2d.h"

#include "common/activation_check.h"
#include "common/box.h"
#include "common/tensor_view.h"
#include "cpu/conv2d.h"
#include "cpu/conv2d_depthwise.h"
#include "cpu/conv2d_grouped.h"
#include "cpu/conv2d_kn2row.h"
#include "cpu/conv2d_winograd.h"
#include "cpu/float_vector.h"
#include "cpu/parallel.h"

namespace convkit {
namespace {

using Ints = std::vector<int64_t>;

template <typename T>
void conv2d_generic(const Conv2dShape& s, const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                    Activation activation, const Tensor& output) {
  GenericConv2d<T> conv{s, view<T>(input), view<T>(weight), view<T>(output)};
  if (bias) conv.bias = data<T>(*bias), conv.bias_stride = bias->stride(0);
  const double work = static_cast<double>(output.numel()) * s.group_ic() * s.kh * s.kw;
  parallel_tasks(s.n * s.oc * s.oh, work, [&](int64_t i) {
    const int64_t n = i / s.oh / s.oc, oc = i / s.oh % s.oc, oh = i % s.oh;
    conv.forward_row(n, oc, oh);
    const View4d<T>& y = conv.output;
    activate_row(activation, y.data + n * y.n + oc * y.c + oh * y.h, y.w, s.ow);
  });
}

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
  const Conv2dShape s = make_conv2d_shape(op, input.sizes(), weight.sizes(), arguments);
  check_same_kind(op, "input", input, "weight", weight);
  if (bias) check_bias(op, *bias, weight);
  const Activation parsed = parse_activation(op, activation);
  const bool channels_last = input.numel() > 0 && (suggests_channels_last(input) || suggests_channels_last(weight));
  return {s, conv2d_select(op, {Conv2dDirection::kForward, s, input.scalar_type()}, algorithm), channels_last, parsed};
}

bool takes_dtype(Conv2dAlgorithm algorithm, const Conv2dProblem& problem) {
  if (algorithm == Conv2dAlgorithm::kGeneric || !is_16_bit(problem.dtype)) return true;
  if (problem.dtype != ScalarType::BFloat16) return false;
  if (algorithm == Conv2dAlgorithm::kDepthwise) {
    const bool turned = problem.direction == Conv2dDirection::kBackwardInput;
    const Conv2dShape run = turned ? conv2d_depthwise_backward_input_shape(problem.shape) : problem.shape;
    return conv2d_depthwise_layout(run, problem.direction, false, true) == DepthwiseLayout::kPacked;
  }
  return algorithm == Conv2dAlgorithm::kWinograd ||
         (algorithm == Conv2dAlgorithm::kDirect && multiplies_bfloat16_pairs());
}

template <typename T>
void run_conv2d_of(const Conv2dCall& call, const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                   const View4d<T>& output, const Conv2dPool<T>* pool) {
  const FloatVector wide_bias(bias);
  const Conv2dEpilogue<T> epilogue{wide_bias.data(), call.activation, pool};
  const View4d<const T> x = const_view<T>(input), w = const_view<T>(weight);
  if (call.algorithm == Conv2dAlgorithm::kWinograd)
    return conv2d_winograd(call.shape, x, w, output, epilogue, call.packed_weight);
  if (call.algorithm == Conv2dAlgorithm::kDirect)
    return conv2d_direct(call.shape, x, w, call.shape.group_oc() * w.n, output, epilogue, call.packed_weight);
  if (call.algorithm == Conv2dAlgorithm::kDepthwise)
    return conv2d_depthwise(call.shape, x, w, epilogue.bias, call.activation, output);
  if constexpr (std::is_same_v<T, float>) {
    if (call.algorithm == Conv2dAlgorithm::kGrouped)
      return conv2d_grouped(call.shape, x, w, call.shape.group_oc() * w.n, output, epilogue);
    conv2d_kn2row(call.shape, x, w, epilogue.bias, call.activation, output);
  }
}

template void run_conv2d_of(const Conv2dCall&, const Tensor&, const Tensor&, const std::optional<Tensor>&,
                            const View4d<float>&, const Conv2dPool<float>*);
template void run_conv2d_of(const Conv2dCall&, const Tensor&, const Tensor&, const std::optional<Tensor>&,
                            const View4d<BFloat16>&, const Conv2dPool<BFloat16>*);

Tensor run_conv2d(const Conv2dCall& call, const Tensor& input, const Tensor& weight,
                  const std::optional<Tensor>& bias) {
  const Conv2dShape& s = call.shape;
  const ScalarType dtype = input.scalar_type();
  if (!takes_dtype(call.algorithm, {Conv2dDirection::kForward, s, dtype})) {
    const std::optional<Tensor> wide_bias = bias ? std::optional(widen(*bias)) : std::nullopt;
    return to_dtype(run_conv2d(call, widen(input), widen(weight), wide_bias), dtype);
  }
  const int64_t sizes[] = {s.n, s.oc, s.oh, s.ow};
  const Tensor output = empty({sizes, 4}, call.channels_last, dtype, input);
  if (output.numel() == 0) return output;
  if (call.algorithm == Conv2dAlgorithm::kGeneric)
    dispatch_floating("conv2d", dtype, [&](auto zero) {
      conv2d_generic<decltype(zero)>(s, input, weight, bias, call.activation, output);
    });
  else if (dtype == ScalarType::BFloat16)
    run_conv2d_of<BFloat16>(call, input, weight, bias, view<BFloat16>(output), nullptr);
  else
    run_conv2d_of<float>(call, input, weight, bias, view<float>(output), nullptr);
  return output;
}

}  // namespace convkit

STABLE_TORCH_LIBRARY_IMPL(convkit, CPU, m) { m.impl("conv2d", CONVKIT_BOX_STRINGS(&convkit::conv2d)); }
