// Convolution by csrc/cuda/conv2d_grouped.cu, where conv2d_candidates offers it: in groups of few channels, or
// depthwise with any window.
#pragma once

#include "cuda/conv2d.h"

namespace convkit::cuda {

void conv2d_grouped(const Conv2dCall& call, const Tensor& input, const Tensor& weight,
                    const std::optional<Tensor>& bias, const Tensor& output);
void conv2d_grouped_backward_input(const char* op, const Conv2dShape& shape, const Tensor& grad_output,
                                   const Tensor& weight, const Tensor& grad_input);
void conv2d_grouped_backward_weight(const char* op, const Conv2dShape& shape, const Tensor& grad_output,
                                    const Tensor& input, const Tensor& grad_weight);

}  // namespace convkit::cuda
