// relu, relu_ and relu_backward on the CPU.
#include "common/relu.h"

#include "common/int_math.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace convkit {
namespace {

constexpr int64_t kBlock = 1 << 13;  // elements of a task: small enough for equal shares of threads

// Any dtype: as torch, a NaN and -0.0 stay what they are.
template <typename T>
void relu_generic(const T* input, T* output, int64_t count) {
  for (int64_t i = 0; i < count; ++i) output[i] = input[i] < T(0) ? T(0) : input[i];
}

template <typename T>
void relu_backward_generic(const T* grad_output, const T* result, T* grad_input, int64_t count) {
  for (int64_t i = 0; i < count; ++i) grad_input[i] = result[i] <= T(0) ? T(0) : grad_output[i];
}

// Calls body(begin, count) for blocks of a flat range; `arrays` of `numel` elements are read or written.
template <typename Body>
void for_each_block(int64_t numel, int arrays, const Body& body) {
  parallel_tasks(ceil_div(numel, kBlock), 0.5 * arrays * numel,
                 [&](int64_t i) { body(i * kBlock, min(kBlock, numel - i * kBlock)); });
}

void relu_into(const Tensor& input, const Tensor& output) {
  dispatch_real("relu", input.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* x = static_cast<const T*>(input.const_data_ptr());
    T* y = static_cast<T*>(output.mutable_data_ptr());
    for_each_block(input.numel(), 2, [&](int64_t begin, int64_t count) {
      if constexpr (std::is_same_v<T, float>)
        kernels().relu.forward(x + begin, y + begin, count);
      else
        relu_generic(x + begin, y + begin, count);
    });
  });
}

void relu_backward_into(const Tensor& grad_output, const Tensor& result, const Tensor& grad_input) {
  dispatch_real("relu_backward", result.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* g = static_cast<const T*>(grad_output.const_data_ptr());
    const T* r = static_cast<const T*>(result.const_data_ptr());
    T* out = static_cast<T*>(grad_input.mutable_data_ptr());
    for_each_block(result.numel(), 3, [&](int64_t begin, int64_t count) {
      if constexpr (std::is_same_v<T, float>)
        kernels().relu.backward(g + begin, r + begin, out + begin, count);
      else
        relu_backward_generic(g + begin, r + begin, out + begin, count);
    });
  });
}

Tensor relu(const Tensor& input) { return relu_with(input, relu_into); }

void relu_(Tensor input) { relu_inplace_with(input, relu_into); }

Tensor relu_backward(const Tensor& grad_output, const Tensor& result) {
  return relu_backward_with(grad_output, result, relu_backward_into);
}

}  // namespace
}  // namespace convkit

STABLE_TORCH_LIBRARY_IMPL(convkit, CPU, m) {
  m.impl("relu", TORCH_BOX(&convkit::relu));
  m.impl("relu_", TORCH_BOX(&convkit::relu_));
  m.impl("relu_backward", TORCH_BOX(&convkit::relu_backward));
}
