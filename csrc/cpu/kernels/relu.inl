// ReLU and its gradient over contiguous memory: bound by bandwidth, so one vector a step is enough.
#pragma once

#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

void relu_forward(const float* input, float* output, int64_t count) {
  for_each_vector_of(count, [=](int64_t i, auto lanes) { lanes.store(output + i, relu(lanes.load(input + i))); });
}

// The gradient passes where the result is not <= 0: for a NaN too, as in torch.
inline Vec relu_gradient(Vec grad_output, Vec result) { return result <= Vec{} ? Vec{} : grad_output; }

void relu_backward(const float* grad_output, const float* result, float* grad_input, int64_t count) {
  for_each_vector_of(count, [=](int64_t i, auto lanes) {
    lanes.store(grad_input + i, relu_gradient(lanes.load(grad_output + i), lanes.load(result + i)));
  });
}

}  // namespace
}  // namespace convkit
