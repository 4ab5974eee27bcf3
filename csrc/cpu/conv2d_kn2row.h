// Runs a convolution into few output channels tap by tap, task by task; float32.
#pragma once

#include "cpu/conv2d_select.h"
#include "cpu/kernels/conv2d_kn2row.h"

namespace convkit {

Conv2dKn2rowBlocking conv2d_kn2row_blocking(const Conv2dShape& shape, const Conv2dKn2rowKernels& kernels);

// output = epilogue(convolution of input with weight), of stride 1 and one group; `bias` [oc] or null, contiguous.
void conv2d_kn2row(const Conv2dShape& shape, const View4d<const float>& input, const View4d<const float>& weight,
                   const float* bias, Activation activation, const View4d<float>& output);

// `shape` and the views are those of the forward convolution, of any stride; writes every element of grad_input.
void conv2d_kn2row_backward_input(const Conv2dShape& shape, const View4d<const float>& grad_output,
                                  const View4d<const float>& weight, const View4d<float>& grad_input);

}  // namespace convkit
