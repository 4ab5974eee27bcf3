// Runs a depthwise convolution, one with as many groups as input and output channels, task by task; computed in
// float32, of float32 or bfloat16.
#pragma once

#include "cpu/conv2d_select.h"
#include "cpu/kernels/conv2d_depthwise.h"

namespace convkit {

// `channels_last`: whether input and output are. bfloat16 has no kernel for planes.
DepthwiseLayout conv2d_depthwise_layout(const Conv2dShape& shape, Conv2dDirection direction, bool channels_last,
                                        bool bfloat16);
Conv2dDepthwiseBlocking conv2d_depthwise_blocking(const Conv2dShape& shape, Conv2dDirection direction,
                                                  DepthwiseLayout layout);

// output = epilogue(convolution of input with weight [channels, 1, kh, kw]); `bias` [channels] or null, contiguous.
template <typename T>
void conv2d_depthwise(const Conv2dShape& shape, const View4d<const T>& input, const View4d<const T>& weight,
                      const float* bias, Activation activation, const View4d<T>& output);

// The convolution over grad_output that gives the gradient of the input, or the largest of several.
Conv2dShape conv2d_depthwise_backward_input_shape(const Conv2dShape& shape);

// `shape` and the views are those of the forward convolution; writes every element of grad_input.
template <typename T>
void conv2d_depthwise_backward_input(const Conv2dShape& shape, const View4d<const T>& grad_output,
                                     const View4d<const T>& weight, const View4d<T>& grad_input);

// grad_weight must be dense: `numel` floats in some order, which `strides` describe.
void conv2d_depthwise_backward_weight(const Conv2dShape& shape, const View4d<const float>& input,
                                      const View4d<const float>& grad_output, const View4d<float>& grad_weight);

}  // namespace convkit
