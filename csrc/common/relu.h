// What relu, relu_ and relu_backward are on every device: checks, allocation and memory order around a kernel
// that walks flat memory.
#pragma once

#include <algorithm>

#include "common/tensor.h"

namespace convkit {

// kernel(input, output): both dense with the same strides; they may be one tensor.
template <typename Kernel>
Tensor relu_with(const Tensor& input, const Kernel& kernel) {
  const Tensor output = dense_like(input);
  kernel(with_strides_of(input, output), output);
  return output;
}

template <typename Kernel>
void relu_inplace_with(Tensor input, const Kernel& kernel) {
  if (is_dense(input)) return kernel(input, input);
  const Tensor result = relu_with(input, kernel);
  torch::stable::copy_(input, result);
}

// kernel(grad_output, result, grad_input): all dense with the same strides.
template <typename Kernel>
Tensor relu_backward_with(const Tensor& grad_output, const Tensor& result, const Kernel& kernel) {
  CONVKIT_CHECK(std::ranges::equal(grad_output.sizes(), result.sizes()),
                "relu_backward: grad_output and result must have the same size, but got ",
                format_sizes(grad_output.sizes()), " and ", format_sizes(result.sizes()));
  CONVKIT_CHECK(grad_output.scalar_type() == result.scalar_type(),
                "relu_backward: grad_output and result must have the same dtype, but got ",
                dtype_name(grad_output.scalar_type()), " and ", dtype_name(result.scalar_type()));
  const Tensor grad_input = dense_like(result);
  kernel(with_strides_of(grad_output, grad_input), with_strides_of(result, grad_input), grad_input);
  return grad_input;
}

}  // namespace convkit
