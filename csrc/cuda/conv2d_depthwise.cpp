#include "cuda/conv2d_depthwise.h"

#include "cuda/conv2d_depthwise_op.h"
#include "cuda/conv2d_grouped_op.h"

namespace convkit::cuda {
void conv2d_depthwise(const Conv2dCall& call, const Tensor& input, const Tensor& weight,
                      const std::optional<Tensor>& bias, const Tensor& output) {
  if (!depthwise_takes(call.shape)) return conv2d_grouped(call, input, weight, bias, output);
  const StreamGuard guard(input);
  dispatch_narrow(call.op, input.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const auto [shape, x, w, b, bias_stride, relu] = generic_conv2d<T>(call, input, weight, bias);
    check_launch(call.op,
                 launch_conv2d_depthwise<T>({shape, x, w, b, bias_stride, relu, view<T>(output)}, guard.stream()));
  });
}

void conv2d_depthwise_backward_input(const char* op, const Conv2dShape& shape, const Tensor& grad_output,
                                     const Tensor& weight, const Tensor& grad_input) {
  if (!depthwise_takes(shape)) return conv2d_grouped_backward_input(op, shape, grad_output, weight, grad_input);
  const StreamGuard guard(weight);
  dispatch_narrow(op, weight.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const Conv2dDepthwise<T> conv{shape, const_view<T>(grad_output), const_view<T>(weight), nullptr, 0,
                                  false, view<T>(grad_input)};
    check_launch(op, launch_conv2d_depthwise_backward_input(conv, guard.stream()));
  });
}

void conv2d_depthwise_backward_weight(const char* op, const Conv2dShape& shape, const Tensor& grad_output,
                                      const Tensor& input, const Tensor& grad_weight) {
  if (!depthwise_takes(shape)) return conv2d_grouped_backward_weight(op, shape, grad_output, input, grad_weight);
  const StreamGuard guard(input);
  const int64_t parts = conv2d_depthwise_parts(shape), floats = parts * grad_weight.numel();
  const Tensor partial = empty({&floats, 1}, false, ScalarType::Float, input);
  dispatch_narrow(op, input.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const Conv2dDepthwiseBackwardWeight<T> conv{
        shape, const_view<T>(input), const_view<T>(grad_output), view<T>(grad_weight), data<float>(partial), parts};
    check_launch(op, launch_conv2d_depthwise_backward_weight(conv, guard.stream()));
  });
}

}  // namespace convkit::cuda
