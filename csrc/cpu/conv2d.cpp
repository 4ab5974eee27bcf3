// conv2d on the CPU: checks, chooses the algorithm, allocates, runs.
#include "cpu/generic/conv2d.h"

#include "common/activation.h"
#include "common/tensor_view.h"
#include "cpu/conv2d.h"
#include "cpu/conv2d_depthwise.h"
#include "cpu/conv2d_grouped.h"
#include "cpu/conv2d_kn2row.h"
#include "cpu/conv2d_winograd.h"
#include "cpu/parallel.h"

namespace convkit {
namespace {

using Ints = std::vector<int64_t>;

template <typename T>
void conv2d_generic(const Conv2dShape& s, const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                    bool relu, const Tensor& output) {
  GenericConv2d<T> conv{s, view<T>(input), view<T>(weight), view<T>(output)};
  if (bias) conv.bias = data<T>(*bias), conv.bias_stride = bias->stride(0);
  const double work = static_cast<double>(output.numel()) * s.group_ic() * s.kh * s.kw;
  parallel_tasks(s.n * s.oc * s.oh, work, [&](int64_t i) {
    const int64_t n = i / s.oh / s.oc, oc = i / s.oh % s.oc, oh = i % s.oh;
    conv.forward_row(n, oc, oh);
    const View4d<T>& y = conv.output;
    if (relu) relu_row(y.data + n * y.n + oc * y.c + oh * y.h, y.w, s.ow);
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
  const bool relu = is_relu(op, activation);
  const bool channels_last = input.numel() > 0 && (suggests_channels_last(input) || suggests_channels_last(weight));
  return {s, conv2d_select(op, {Conv2dDirection::kForward, s, input.scalar_type()}, algorithm), channels_last, relu};
}

void run_conv2d_float32(const Conv2dCall& call, const Tensor& input, const Tensor& weight,
                        const std::optional<Tensor>& bias, const View4d<float>& output, const Conv2dPool* pool) {
  std::optional<Tensor> dense_bias;
  if (bias) dense_bias = contiguous_vector(*bias);
  const Conv2dEpilogue epilogue{dense_bias ? data<float>(*dense_bias) : nullptr, call.relu, pool};
  const View4d<const float> x = const_view<float>(input), w = const_view<float>(weight);
  if (call.algorithm == Conv2dAlgorithm::kWinograd)
    conv2d_winograd(call.shape, x, w, output, epilogue, call.packed_weight);
  else if (call.algorithm == Conv2dAlgorithm::kDepthwise)
    conv2d_depthwise(call.shape, x, w, epilogue.bias, call.relu, output);
  else if (call.algorithm == Conv2dAlgorithm::kGrouped)
    conv2d_grouped(call.shape, x, w, call.shape.group_oc() * w.n, output, epilogue);
  else if (call.algorithm == Conv2dAlgorithm::kKn2row)
    conv2d_kn2row(call.shape, x, w, epilogue.bias, call.relu, output);
  else
    conv2d_direct(call.shape, x, w, call.shape.group_oc() * w.n, output, epilogue, call.packed_weight);
}

Tensor run_conv2d(const Conv2dCall& call, const Tensor& input, const Tensor& weight,
                  const std::optional<Tensor>& bias) {
  const Conv2dShape& s = call.shape;
  if (is_16_bit(input.scalar_type()) && call.algorithm != Conv2dAlgorithm::kGeneric) {
    const std::optional<Tensor> wide_bias = bias ? std::optional(widen(*bias)) : std::nullopt;
    return to_dtype(run_conv2d(call, widen(input), widen(weight), wide_bias), input.scalar_type());
  }
  const int64_t sizes[] = {s.n, s.oc, s.oh, s.ow};
  const Tensor output = empty({sizes, 4}, call.channels_last, input.scalar_type(), input);
  if (output.numel() == 0) return output;
  if (call.algorithm != Conv2dAlgorithm::kGeneric) {
    run_conv2d_float32(call, input, weight, bias, view<float>(output), nullptr);
  } else {
    dispatch_floating("conv2d", input.scalar_type(),
                      [&](auto zero) { conv2d_generic<decltype(zero)>(s, input, weight, bias, call.relu, output); });
  }
  return output;
}

}  // namespace convkit

STABLE_TORCH_LIBRARY_IMPL(convkit, CPU, m) { m.impl("conv2d", TORCH_BOX(&convkit::conv2d)); }
