// Runs a Winograd convolution task by task; computed in float32, of float32 or bfloat16; windows of 3x3 or 5x5,
// stride 1, no dilation, one group.
#pragma once

#include "cpu/conv2d_direct.h"
#include "cpu/kernels/conv2d_winograd.h"

namespace convkit {

Conv2dWinogradBlocking conv2d_winograd_blocking(const Conv2dShape& shape, const Conv2dWinogradKernels& kernels,
                                                const Pool2dShape* pool = nullptr);

// Whether the windows of a pooling lie within tiles.
bool can_pool_tiles(const Conv2dShape& shape, const Pool2dShape& pool);

// output = epilogue(convolution of input with weight); `packed_weight`, the blocks of conv2d_winograd_packing, spares
// transforming.
template <typename T>
void conv2d_winograd(const Conv2dShape& shape, const View4d<const T>& input, const View4d<const T>& weight,
                     const View4d<T>& output, const Conv2dEpilogue<T>& epilogue, const float* packed_weight = nullptr);

// The blocks of packed weights, which depend on the shape of the weight alone.
Conv2dWinograd<float> conv2d_winograd_packing(const Conv2dShape& shape, const View4d<const float>& weight);

// The convolution over grad_output that gives the gradient of the input.
Conv2dShape winograd_backward_input_shape(const Conv2dShape& shape);

Conv2dWinogradBackwardWeightBlocking conv2d_winograd_backward_weight_blocking(const Conv2dShape& shape,
                                                                              const Conv2dWinogradKernels& kernels);

// `shape` and the views are those of the forward convolution; grad_weight is dense.
void conv2d_winograd_backward_weight(const Conv2dShape& shape, const View4d<const float>& input,
                                     const View4d<const float>& grad_output, const View4d<float>& grad_weight);

// `shape` and the views are those of the forward convolution.
template <typename T>
void conv2d_winograd_backward_input(const Conv2dShape& shape, const View4d<const T>& grad_output,
                                    const View4d<const T>& weight, const View4d<T>& grad_input);

}  // namespace convkit
