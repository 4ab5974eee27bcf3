// linear on the CPU: a stream over the weight for a few rows, else the direct convolution of a 1 x rows image with a
// 1x1 window, which is the same sum.
#include <optional>

#include "common/activation_check.h"
#include "common/box.h"
#include "common/conv2d_check.h"
#include "common/int_math.h"
#include "common/tensor_view.h"
#include "cpu/conv2d_direct.h"
#include "cpu/float_vector.h"
#include "cpu/generic/conv2d.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace convkit {
namespace {

template <typename T>
void linear_rows(const Tensor& input, const Tensor& weight, const float* bias, Activation relu, const Tensor& output) {
  const Tensor x = torch::stable::contiguous(input);
  const LinearRows<T> problem{
      const_data<T>(x), const_data<T>(weight), weight.stride(0),         bias, data<T>(output), x.size(0),
      x.size(1),        weight.size(0),        relu == Activation::kRelu};
  constexpr int64_t kBlock = 16;
  const double work = static_cast<double>(weight.numel()) * x.size(0);
  parallel_tasks(ceil_div(problem.out_features, kBlock), work, [&](int64_t i) {
    kernels().linear.get<T>().rows(problem, i * kBlock, min((i + 1) * kBlock, problem.out_features));
  });
}

// A matrix [rows, features] as an image: features are channels, rows are pixels.
template <typename T>
View4d<T> as_image(const Tensor& matrix) {
  return {static_cast<T*>(matrix.data_ptr()), 0, matrix.stride(1), 0, matrix.stride(0)};
}

template <typename T>
View4d<T> as_window(const Tensor& weight) {
  return {static_cast<T*>(weight.data_ptr()), weight.stride(0), weight.stride(1), 0, 0};
}

template <typename T>
void linear_generic(const Conv2dShape& s, const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                    Activation relu, const Tensor& output) {
  GenericConv2d<T> conv{s, as_image<T>(input), as_window<T>(weight), as_image<T>(output)};
  if (bias) conv.bias = data<T>(*bias), conv.bias_stride = bias->stride(0);
  parallel_tasks(s.oc, static_cast<double>(output.numel()) * s.ic, [&](int64_t oc) {
    conv.forward_row(0, oc, 0);
    activate_row(relu, conv.output.data + oc * conv.output.c, conv.output.w, s.ow);
  });
}

template <typename T>
void linear_of(const Conv2dShape& s, const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
               Activation relu, const Tensor& output) {
  const FloatVector wide_bias(bias);
  if (input.size(0) <= kLinearRows && weight.stride(1) == 1)
    linear_rows<T>(input, weight, wide_bias.data(), relu, output);
  else
    conv2d_direct<T>(s, as_image<const T>(input), as_window<const T>(weight), 0, as_image<T>(output),
                     {wide_bias.data(), relu});
}

Tensor linear(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
              const std::string& activation) {
  CONVKIT_CHECK(input.dim() == 2 && weight.dim() == 2, "linear: expected 2D input and weight, but got sizes ",
                format_sizes(input.sizes()), " and ", format_sizes(weight.sizes()));
  CONVKIT_CHECK(input.size(1) == weight.size(1), "linear: input of size ", format_sizes(input.sizes()),
                " cannot be multiplied with weight of size ", format_sizes(weight.sizes()), ": in_features differ");
  check_same_kind("linear", "input", input, "weight", weight);
  if (bias) check_bias("linear", *bias, weight);
  const Activation relu = is_relu("linear", activation) ? Activation::kRelu : Activation::kNone;
  const int64_t rows = input.size(0), in_features = input.size(1), out_features = weight.size(0);
  const int64_t sizes[] = {rows, out_features};
  const Tensor output = empty({sizes, 2}, false, input.scalar_type(), input);
  if (output.numel() == 0) return output;

  const Conv2dShape s{1, in_features, 1, rows, out_features, 1, rows, 1, 1, 1, 1, 0, 0, 1, 1, 1};
  const ScalarType dtype = input.scalar_type();
  const bool few_rows = rows <= kLinearRows, streams = few_rows && weight.stride(1) == 1;
  if (in_features > 0 && dtype == ScalarType::Float) {
    linear_of<float>(s, input, weight, bias, relu, output);
  } else if (in_features > 0 && dtype == ScalarType::BFloat16 && (streams || multiplies_bfloat16_pairs())) {
    linear_of<BFloat16>(s, input, weight, bias, relu, output);
  } else if (in_features > 0 && is_16_bit(dtype) && !few_rows) {
    const std::optional<Tensor> wide_bias = bias ? std::optional(widen(*bias)) : std::nullopt;
    return to_dtype(linear(widen(input), widen(weight), wide_bias, activation), dtype);
  } else {
    dispatch_floating("linear", dtype,
                      [&](auto zero) { linear_generic<decltype(zero)>(s, input, weight, bias, relu, output); });
  }
  return output;
}

}  // namespace
}  // namespace convkit

STABLE_TORCH_LIBRARY_IMPL(convkit, CPU, m) { m.impl("linear", CONVKIT_BOX_STRINGS(&convkit::linear)); }
