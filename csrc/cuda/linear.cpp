// linear on CUDA: the convolution of a 1 x rows image with a 1x1 window, which is the same sum.
#include <optional>

#include "common/activation_check.h"
#include "common/box.h"
#include "common/conv2d_check.h"
#include "common/tensor_view.h"
#include "cuda/conv2d_generic.h"
#include "cuda/conv2d_select.h"
#include "cuda/stream.h"

namespace convkit::cuda {
namespace {

// Fewer leave a tile of products nearly empty, and packing the weight would take longer than reading it.
constexpr int64_t kLeastRows = 8;

Tensor linear(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
              const std::string& activation) {
  check_devices("linear", {&input, &weight});
  if (bias) check_devices("linear", {&input, &*bias});
  CONVKIT_CHECK(input.dim() == 2 && weight.dim() == 2, "linear: expected 2D input and weight, but got sizes ",
                format_sizes(input.sizes()), " and ", format_sizes(weight.sizes()));
  CONVKIT_CHECK(input.size(1) == weight.size(1), "linear: input of size ", format_sizes(input.sizes()),
                " cannot be multiplied with weight of size ", format_sizes(weight.sizes()), ": in_features differ");
  check_same_kind("linear", "input", input, "weight", weight);
  if (bias) check_bias("linear", *bias, weight);
  const bool relu = is_relu("linear", activation);
  const int64_t rows = input.size(0), in_features = input.size(1), out_features = weight.size(0);
  const int64_t sizes[] = {rows, out_features};
  const Tensor output = empty({sizes, 2}, false, input.scalar_type(), input);
  if (output.numel() == 0) return output;

  // Features are channels, rows are pixels.
  const Conv2dShape s{1, in_features, 1, rows, out_features, 1, rows, 1, 1, 1, 1, 0, 0, 1, 1, 1};
  const StreamGuard guard(input);
  const Conv2dProblem problem{Conv2dDirection::kForward, s, input.scalar_type()};
  const auto unit = gemm_unit(select_algorithm("linear", problem, "auto"), input.scalar_type());
  if (unit && rows >= kLeastRows) {
    linear_gemm_into({"linear", s, *unit, guard.stream()}, input, weight, {bias, relu}, output);
    return output;
  }
  dispatch_floating("linear", input.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const Conv2dGeneric<T> conv{s,
                                {const_data<T>(input), 0, input.stride(1), 0, input.stride(0)},
                                {const_data<T>(weight), weight.stride(0), weight.stride(1), 0, 0},
                                bias ? const_data<T>(*bias) : nullptr,
                                bias ? bias->stride(0) : 0,
                                relu};
    const View4d<T> out{data<T>(output), 0, 1, 0, out_features};
    check_launch("linear", launch_conv2d_generic(conv, out, guard.stream()));
  });
  return output;
}

}  // namespace
}  // namespace convkit::cuda

CONVKIT_CUDA_OPS(m) { m.impl("linear", CONVKIT_BOX_STRINGS(&convkit::cuda::linear)); }
