// Runs a direct convolution task by task; float32.
#pragma once

#include "cpu/kernels/conv2d_direct.h"

namespace convkit {

struct Conv2dEpilogue {
  const float* bias = nullptr;  // [oc], contiguous
  bool relu = false;
  const Conv2dPool* pool = nullptr;  // see can_pool_bands
};

// output = epilogue(convolution of input with weight); `weight_group_stride` leads from one group's weights to the
// next's. `packed_weight`, the blocks of conv2d_direct_packing, spares packing.
void conv2d_direct(const Conv2dShape& shape, const View4d<const float>& input, const View4d<const float>& weight,
                   int64_t weight_group_stride, const View4d<float>& output, const Conv2dEpilogue& epilogue,
                   const float* packed_weight = nullptr);

// The blocks of packed weights, which depend on the shape of the weight alone.
Conv2dDirect conv2d_direct_packing(const Conv2dShape& shape, const View4d<const float>& weight,
                                   int64_t weight_group_stride);

// `shape` and the views are those of the forward convolution; writes every element of grad_input.
void conv2d_direct_backward_input(const Conv2dShape& shape, const View4d<const float>& grad_output,
                                  const View4d<const float>& weight, const View4d<float>& grad_input);

// grad_weight must be dense: `numel` floats in some order, which `strides` describe.
void conv2d_direct_backward_weight(const Conv2dShape& shape, const View4d<const float>& input,
                                   const View4d<const float>& grad_output, const View4d<float>& grad_weight);

}  // namespace convkit
