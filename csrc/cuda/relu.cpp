// relu, relu_ and relu_backward on CUDA.
#include "cuda/relu.h"

#include "common/relu.h"
#include "common/tensor_view.h"
#include "cuda/stream.h"

namespace convkit::cuda {
namespace {

void relu_into(const Tensor& input, const Tensor& output) {
  dispatch_real("relu", input.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const StreamGuard guard(input);
    check_launch("relu", launch_relu(const_data<T>(input), data<T>(output), input.numel(), guard.stream()));
  });
}

void relu_backward_into(const Tensor& grad_output, const Tensor& result, const Tensor& grad_input) {
  dispatch_real("relu_backward", result.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const StreamGuard guard(result);
    check_launch("relu_backward", launch_relu_backward(const_data<T>(grad_output), const_data<T>(result),
                                                       data<T>(grad_input), result.numel(), guard.stream()));
  });
}

Tensor relu(const Tensor& input) {
  check_devices("relu", {&input});
  return relu_with(input, relu_into);
}

void relu_(Tensor input) {
  check_devices("relu_", {&input});
  relu_inplace_with(input, relu_into);
}

Tensor relu_backward(const Tensor& grad_output, const Tensor& result) {
  check_devices("relu_backward", {&grad_output, &result});
  return relu_backward_with(grad_output, result, relu_backward_into);
}

}  // namespace
}  // namespace convkit::cuda

CONVKIT_CUDA_OPS(m) {
  m.impl("relu", TORCH_BOX(&convkit::cuda::relu));
  m.impl("relu_", TORCH_BOX(&convkit::cuda::relu_));
  m.impl("relu_backward", TORCH_BOX(&convkit::cuda::relu_backward));
}
