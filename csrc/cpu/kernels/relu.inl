// ReLU and its gradient over contiguous memory: bound by bandwidth, so one vector a step is enough.
#pragma once

#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

void relu_forward(const float* input, float* output, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(output + i, relu(load(input + i)));
  if (i < count) store_first(output + i, relu(load_first(input + i, count - i)), count - i);
}

// The gradient passes where the result is not <= 0: for a NaN too, as in torch.
inline Vec relu_gradient(Vec grad_output, Vec result) { return result <= Vec{} ? Vec{} : grad_output; }

void relu_backward(const float* grad_output, const float* result, float* grad_input, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    store(grad_input + i, relu_gradient(load(grad_output + i), load(result + i)));
  if (i < count) {
    const Vec grad = relu_gradient(load_first(grad_output + i, count - i), load_first(result + i, count - i));
    store_first(grad_input + i, grad, count - i);
  }
}

}  // namespace
}  // namespace convkit
