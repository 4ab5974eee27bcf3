// Max-pooling of tensors, for the ops and for the fused convolution.
#pragma once

#include "common/pool2d_shape.h"
#include "common/tensor.h"

namespace convkit {

// output = max_pool2d(input), and the taps where that tensor is not null. Output and taps are dense and have one
// format, channels_last or contiguous; the input may have any strides.
void max_pool2d_forward(const Pool2dShape& shape, const Tensor& input, const Tensor& output, const Tensor* taps);

}  // namespace convkit
