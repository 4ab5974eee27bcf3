// Depthwise convolution of tensors, where conv2d_candidates offers it.
#pragma once

#include "cuda/conv2d.h"

namespace convkit::cuda {

void conv2d_depthwise(const Conv2dCall& call, const Tensor& input, const Tensor& weight,
                      const std::optional<Tensor>& bias, const Tensor& output);
void conv2d_depthwise_backward_input(const char* op, const Conv2dShape& shape, const Tensor& grad_output,
                                     const Tensor& weight, const Tensor& grad_input);
void conv2d_depthwise_backward_weight(const char* op, const Conv2dShape& shape, const Tensor& grad_output,
                                      const Tensor& input, const Tensor& grad_weight);

}  // namespace convkit::cuda
