// relu, relu_ and relu_backward on the CPU.
#include "common/int_math.h"
#include "common/tensor.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace convkit {
namespace {

constexpr int64_t kBlock = 1 << 15;  // elements of a task: 128 KiB of float, which stays in L2

// Any dtype: as torch, a NaN and -0.0 stay what they are.
template <typename T>
void relu_generic(const T* input, T* output, int64_t count) {
  for (int64_t i = 0; i < count; ++i) output[i] = input[i] < T(0) ? T(0) : input[i];
}

template <typename T>
void relu_backward_generic(const T* grad_output, const T* result, T* grad_input, int64_t count) {
  for (int64_t i = 0; i < count; ++i) grad_input[i] = result[i] <= T(0) ? T(0) : grad_output[i];
}

// Calls body(begin, count) for blocks of a flat range.
template <typename Body>
void for_each_block(int64_t numel, const Body& body) {
  parallel_tasks(ceil_div(numel, kBlock), static_cast<double>(numel),
                 [&](int64_t i) { body(i * kBlock, min(kBlock, numel - i * kBlock)); });
}

void relu_into(const Tensor& input, const Tensor& output) {
  dispatch_real("relu", input.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* x = static_cast<const T*>(input.const_data_ptr());
    T* y = static_cast<T*>(output.mutable_data_ptr());
    for_each_block(input.numel(), [&](int64_t begin, int64_t count) {
      if constexpr (std::is_same_v<T, float>)
        kernels().relu.forward(x + begin, y + begin, count);
      else
        relu_generic(x + begin, y + begin, count);
    });
  });
}

Tensor relu(const Tensor& input) {
  const Tensor output = torch::stable::empty_like(input);  // dense, with the input's strides where those are dense
  relu_into(with_strides_of(input, output), output);
  return output;
}

void relu_(Tensor input) {
  if (is_dense(input)) return relu_into(input, input);
  Tensor result = relu(input);
  torch::stable::copy_(input, result);
}

Tensor relu_backward(const Tensor& grad_output, const Tensor& result) {
  CONVKIT_CHECK(std::ranges::equal(grad_output.sizes(), result.sizes()),
                "relu_backward: grad_output and result must have the same size, but got ",
                format_sizes(grad_output.sizes()), " and ", format_sizes(result.sizes()));
  CONVKIT_CHECK(grad_output.scalar_type() == result.scalar_type(),
                "relu_backward: grad_output and result must have the same dtype, but got ",
                dtype_name(grad_output.scalar_type()), " and ", dtype_name(result.scalar_type()));
  const Tensor grad_input = torch::stable::empty_like(result);
  const Tensor grad = with_strides_of(grad_output, grad_input), dense_result = with_strides_of(result, grad_input);
  dispatch_real("relu_backward", result.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* g = static_cast<const T*>(grad.const_data_ptr());
    const T* r = static_cast<const T*>(dense_result.const_data_ptr());
    T* out = static_cast<T*>(grad_input.mutable_data_ptr());
    for_each_block(grad.numel(), [&](int64_t begin, int64_t count) {
      if constexpr (std::is_same_v<T, float>)
        kernels().relu.backward(g + begin, r + begin, out + begin, count);
      else
        relu_backward_generic(g + begin, r + begin, out + begin, count);
    });
  });
  return grad_input;
}

}  // namespace
}  // namespace convkit

STABLE_TORCH_LIBRARY_IMPL(convkit, CPU, m) {
  m.impl("relu", TORCH_BOX(&convkit::relu));
  m.impl("relu_", TORCH_BOX(&convkit::relu_));
  m.impl("relu_backward", TORCH_BOX(&convkit::relu_backward));
}
