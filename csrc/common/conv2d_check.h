// Arguments of a convolution, checked once for every backend and direction.
#pragma once

#include <vector>

#include "common/conv2d_shape.h"
#include "common/tensor.h"

namespace convkit {

// As the ops take them: stride and dilation (height, width), padding (top, bottom, left, right).
struct Conv2dArguments {
  const std::vector<int64_t>& stride;
  const std::vector<int64_t>& padding;
  const std::vector<int64_t>& dilation;
  int64_t groups;
};

// The geometry of `op` on an input and a weight of these sizes; a RuntimeError in torch's words if there is none.
Conv2dShape make_conv2d_shape(const char* op, IntHeaderOnlyArrayRef input, IntHeaderOnlyArrayRef weight,
                              const Conv2dArguments& arguments);

// Both tensors on the same kind of device, with the same dtype.
void check_same_kind(const char* op, const char* first_name, const Tensor& first, const char* second_name,
                     const Tensor& second);

void check_bias(const char* op, const Tensor& bias, const Tensor& weight);

// The output of a convolution must be [n, oc, oh, ow].
void check_grad_output(const char* op, const Tensor& grad_output, const Conv2dShape& shape);

}  // namespace convkit
