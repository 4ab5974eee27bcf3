// ReLU and its gradient over contiguous memory: bound by bandwidth, so one vector a step is enough. Fetching ahead
// takes the gradient of 102 MB from 9.3 to 7.9 ms, in place from 3.0 to 2.7; into another output from 5.4 to 5.8.
#pragma once

#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

void relu_forward(const float* input, float* output, int64_t count) {
  const bool in_place = input == output;
  for_each_vector_of(count, [=](int64_t i, auto lanes) {
    if (in_place) prefetch_ahead(input + i);
    lanes.store(output + i, relu(lanes.load(input + i)));
  });
}

// The gradient passes where the result is not <= 0: for a NaN too, as in torch.
inline Vec relu_gradient(Vec grad_output, Vec result) { return result <= Vec{} ? Vec{} : grad_output; }

void relu_backward(const float* grad_output, const float* result, float* grad_input, int64_t count) {
  for_each_vector_of(count, [=](int64_t i, auto lanes) {
    prefetch_ahead(grad_output + i);
    prefetch_ahead(result + i);
    lanes.store(grad_input + i, relu_gradient(lanes.load(grad_output + i), lanes.load(result + i)));
  });
}

}  // namespace
}  // namespace convkit
