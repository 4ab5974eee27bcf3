// Max-pooling of tensors, for the ops and for the fused convolution.
#pragma once

#include "common/pool2d_shape.h"
#include "common/tensor_view.h"
#include "cuda/stream.h"

namespace convkit::cuda {

struct MaxPool2dCall {
  Pool2dShape shape;
  bool channels_last;     // the format of output and taps, which decides how a window of -infinity counts
  bool has_relu = false;  // the input is a ReLU's: a window without a positive value passes no gradient
};

// output = max_pool2d(input), and the taps where that tensor is not null. The input may have any strides.
void max_pool2d_forward(const char* op, const MaxPool2dCall& call, const Tensor& input, const Tensor& output,
                        const Tensor* taps);

}  // namespace convkit::cuda
