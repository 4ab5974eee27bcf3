// The gradients of conv2d on the CPU: conv2d_backward_input, conv2d_backward_weight, conv2d_backward_bias.
#include "common/box.h"
#include "common/conv2d_check.h"
#include "common/tensor_view.h"
#include "cpu/conv2d.h"
#include "cpu/conv2d_depthwise.h"
#include "cpu/conv2d_direct.h"
#include "cpu/conv2d_grouped.h"
#include "cpu/conv2d_kn2row.h"
#include "cpu/conv2d_select.h"
#include "cpu/conv2d_tasks.h"
#include "cpu/conv2d_winograd.h"
#include "cpu/generic/conv2d.h"
#include "cpu/isa.h"

namespace convkit {
namespace {

using Ints = std::vector<int64_t>;

IntHeaderOnlyArrayRef sizes_of(const Ints& sizes) { return {sizes.data(), sizes.size()}; }

Tensor conv2d_backward_input(const Tensor& grad_output, const Tensor& weight, const Ints& input_size,
                             bool channels_last, const Ints& stride, const Ints& padding, const Ints& dilation,
                             int64_t groups, const std::string& algorithm) {
  constexpr const char* kOp = "conv2d_backward_input";
  const Conv2dShape s =
      make_conv2d_shape(kOp, sizes_of(input_size), weight.sizes(), {stride, padding, dilation, groups});
  check_same_kind(kOp, "grad_output", grad_output, "weight", weight);
  check_grad_output(kOp, grad_output, s);
  const ScalarType dtype = weight.scalar_type();
  const Conv2dProblem problem{Conv2dDirection::kBackwardInput, s, dtype};
  const auto chosen = conv2d_select(kOp, problem, algorithm);
  if (!takes_dtype(chosen, problem))
    return to_dtype(conv2d_backward_input(widen(grad_output), widen(weight), input_size, channels_last, stride, padding,
                                          dilation, groups, algorithm),
                    dtype);
  const Tensor grad_input = empty(sizes_of(input_size), channels_last, dtype, weight);
  if (grad_input.numel() == 0) return grad_input;
  if (chosen != Conv2dAlgorithm::kGeneric && dtype == ScalarType::BFloat16) {
    const auto backward = chosen == Conv2dAlgorithm::kWinograd    ? conv2d_winograd_backward_input<BFloat16>
                          : chosen == Conv2dAlgorithm::kDepthwise ? conv2d_depthwise_backward_input<BFloat16>
                                                                  : conv2d_direct_backward_input<BFloat16>;
    backward(s, const_view<BFloat16>(grad_output), const_view<BFloat16>(weight), view<BFloat16>(grad_input));
    return grad_input;
  }
  if (chosen != Conv2dAlgorithm::kGeneric) {
    const auto backward = chosen == Conv2dAlgorithm::kWinograd    ? conv2d_winograd_backward_input<float>
                          : chosen == Conv2dAlgorithm::kDepthwise ? conv2d_depthwise_backward_input<float>
                          : chosen == Conv2dAlgorithm::kGrouped   ? conv2d_grouped_backward_input
                          : chosen == Conv2dAlgorithm::kKn2row    ? conv2d_kn2row_backward_input
                                                                  : conv2d_direct_backward_input<float>;
    backward(s, const_view<float>(grad_output), const_view<float>(weight), view<float>(grad_input));
    return grad_input;
  }
  dispatch_floating(kOp, dtype, [&](auto zero) {
    using T = decltype(zero);
    const GenericConv2d<T> conv{s, view<T>(grad_input), view<T>(weight), view<T>(grad_output)};
    parallel_tasks(s.n * s.ic * s.ih, products(s),
                   [&](int64_t i) { conv.backward_input_row(i / s.ih / s.ic, i / s.ih % s.ic, i % s.ih); });
  });
  return grad_input;
}

Tensor conv2d_backward_weight(const Tensor& grad_output, const Tensor& input, const Ints& weight_size,
                              bool channels_last, const Ints& stride, const Ints& padding, const Ints& dilation,
                              int64_t groups, const std::string& algorithm) {
  constexpr const char* kOp = "conv2d_backward_weight";
  const Conv2dShape s =
      make_conv2d_shape(kOp, input.sizes(), sizes_of(weight_size), {stride, padding, dilation, groups});
  check_same_kind(kOp, "grad_output", grad_output, "input", input);
  check_grad_output(kOp, grad_output, s);
  const ScalarType dtype = input.scalar_type();
  const auto chosen = conv2d_select(kOp, {Conv2dDirection::kBackwardWeight, s, dtype}, algorithm);
  if (chosen != Conv2dAlgorithm::kGeneric && is_16_bit(dtype))
    return to_dtype(conv2d_backward_weight(widen(grad_output), widen(input), weight_size, channels_last, stride,
                                           padding, dilation, groups, algorithm),
                    dtype);
  const Tensor grad_weight = empty(sizes_of(weight_size), channels_last, dtype, input);
  if (grad_weight.numel() == 0) return grad_weight;
  if (chosen != Conv2dAlgorithm::kGeneric) {
    const auto backward = chosen == Conv2dAlgorithm::kWinograd    ? conv2d_winograd_backward_weight
                          : chosen == Conv2dAlgorithm::kDepthwise ? conv2d_depthwise_backward_weight
                          : chosen == Conv2dAlgorithm::kGrouped   ? conv2d_grouped_backward_weight
                                                                  : conv2d_direct_backward_weight;
    backward(s, const_view<float>(input), const_view<float>(grad_output), view<float>(grad_weight));
    return grad_weight;
  }
  dispatch_floating(kOp, dtype, [&](auto zero) {
    using T = decltype(zero);
    const GenericConv2d<T> conv{s, view<T>(input), view<T>(grad_weight), view<T>(grad_output)};
    parallel_tasks(s.oc * s.group_ic(), products(s),
                   [&](int64_t i) { conv.backward_weight_window(i / s.group_ic(), i % s.group_ic()); });
  });
  return grad_weight;
}

// Sums of a float32 gradient whose channels or pixels lie side by side, image by image in blocks of pixels; false: it
// is neither. Which numbers are added when depends on the shape alone.
bool sum_blocks(const View4d<const float>& g, const Conv2dShape& s, float* sums) {
  constexpr int64_t kPixels = 256, kVectors = 1024;  // of a block: no more than 256 additions one after the other
  const int64_t pixels = s.oh * s.ow;
  const bool channels_last = g.c == 1 && g.h == s.ow * g.w;
  if (!channels_last && !(g.w == 1 && g.h == s.ow)) return false;
  const int64_t size = channels_last ? kPixels : kVectors * kernels().vector_floats, blocks = ceil_div(pixels, size);
  std::vector<float> partial(s.n * blocks * s.oc);
  parallel_tasks(s.n * blocks, static_cast<double>(s.n) * pixels * s.oc, [&](int64_t i) {
    const int64_t begin = i % blocks * size, count = min(size, pixels - begin);
    const float* image = g.data + i / blocks * g.n + begin * g.w;
    float* own = partial.data() + i * s.oc;
    if (channels_last)
      kernels().sum.channels_last(image, count, g.w, s.oc, own);
    else
      for (int64_t c = 0; c < s.oc; ++c) own[c] = kernels().sum.contiguous(image + c * g.c, count);
  });
  for (int64_t c = 0; c < s.oc; ++c) {
    double total = 0;
    for (int64_t i = 0; i < s.n * blocks; ++i) total += partial[i * s.oc + c];
    sums[c] = static_cast<float>(total);
  }
  return true;
}

Tensor conv2d_backward_bias(const Tensor& grad_output) {
  CONVKIT_CHECK(grad_output.dim() == 4, "conv2d_backward_bias: expected a 4D grad_output, but got size ",
                format_sizes(grad_output.sizes()));
  const int64_t n = grad_output.size(0), c = grad_output.size(1), h = grad_output.size(2), w = grad_output.size(3);
  const Tensor grad_bias = empty({&c, 1}, false, grad_output.scalar_type(), grad_output);
  Conv2dShape s{};
  s.n = n, s.oc = c, s.oh = h, s.ow = w;
  if (grad_output.scalar_type() == ScalarType::Float &&
      sum_blocks(const_view<float>(grad_output), s, data<float>(grad_bias)))
    return grad_bias;
  dispatch_floating("conv2d_backward_bias", grad_output.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const View4d<const T> y = const_view<T>(grad_output);
    parallel_tasks(c, static_cast<double>(grad_output.numel()),
                   [&](int64_t i) { data<T>(grad_bias)[i] = sum_channel(y, i, n, h, w); });
  });
  return grad_bias;
}

}  // namespace
}  // namespace convkit

STABLE_TORCH_LIBRARY_IMPL(convkit, CPU, m) {
  m.impl("conv2d_backward_input", CONVKIT_BOX_STRINGS(&convkit::conv2d_backward_input));
  m.impl("conv2d_backward_weight", CONVKIT_BOX_STRINGS(&convkit::conv2d_backward_weight));
  m.impl("conv2d_backward_bias", TORCH_BOX(&convkit::conv2d_backward_bias));
}
