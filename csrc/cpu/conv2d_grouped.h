// Runs a convolution of several groups of few channels, task by task; float32.
#pragma once

#include "cpu/conv2d_direct.h"
#include "cpu/conv2d_select.h"
#include "cpu/kernels/conv2d_grouped.h"

namespace convkit {

Conv2dGroupedBlocking conv2d_grouped_blocking(const Conv2dShape& shape, const Conv2dGroupedKernels& kernels,
                                              Conv2dDirection direction);

// output = epilogue(convolution of input with weight), without pooling; `weight_group_stride` leads from one group's
// weights to the next's.
void conv2d_grouped(const Conv2dShape& shape, const View4d<const float>& input, const View4d<const float>& weight,
                    int64_t weight_group_stride, const View4d<float>& output, const Conv2dEpilogue<float>& epilogue);

// What a gradient of the input runs as, or the largest part of it, for conv2d_grouped_blocking: a convolution of
// stride 1.
Conv2dShape conv2d_grouped_backward_input_shape(const Conv2dShape& shape);

// `shape` and the views are those of the forward convolution; writes every element of grad_input.
void conv2d_grouped_backward_input(const Conv2dShape& shape, const View4d<const float>& grad_output,
                                   const View4d<const float>& weight, const View4d<float>& grad_input);

// grad_weight must be dense, one filter after the other.
void conv2d_grouped_backward_weight(const Conv2dShape& shape, const View4d<const float>& input,
                                    const View4d<const float>& grad_output, const View4d<float>& grad_weight);

}  // namespace convkit
