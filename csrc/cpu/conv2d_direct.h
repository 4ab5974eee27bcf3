// Runs a direct convolution task by task; of float32, and of bfloat16 where the ISA multiplies pairs of it.
#pragma once

#include "cpu/kernels/conv2d_direct.h"

namespace convkit {

template <typename T>
struct Conv2dEpilogue {
  const float* bias = nullptr;  // [oc], contiguous
  Activation activation = Activation::kNone;
  const Conv2dPool<T>* pool = nullptr;  // see can_pool_bands
};

// Whether there is a kernel for bfloat16 as it is; otherwise whole tensors are widened.
bool multiplies_bfloat16_pairs();

// output = epilogue(convolution of input with weight); `weight_group_stride` leads from one group's weights to the
// next's. `packed_weight`, the blocks of conv2d_direct_packing, spares packing.
template <typename T>
void conv2d_direct(const Conv2dShape& shape, const View4d<const T>& input, const View4d<const T>& weight,
                   int64_t weight_group_stride, const View4d<T>& output, const Conv2dEpilogue<T>& epilogue,
                   const float* packed_weight = nullptr);

// The blocks of packed weights, which depend on the shape of the weight alone.
Conv2dDirect<float> conv2d_direct_packing(const Conv2dShape& shape, const View4d<const float>& weight,
                                          int64_t weight_group_stride);

// `shape` and the views are those of the forward convolution; writes every element of grad_input.
template <typename T>
void conv2d_direct_backward_input(const Conv2dShape& shape, const View4d<const T>& grad_output,
                                  const View4d<const T>& weight, const View4d<T>& grad_input);

// grad_weight must be dense: `numel` floats in some order, which `strides` describe.
void conv2d_direct_backward_weight(const Conv2dShape& shape, const View4d<const float>& input,
                                   const View4d<const float>& grad_output, const View4d<float>& grad_weight);

}  // namespace convkit
