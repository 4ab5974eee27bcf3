// Launchers of csrc/cuda/conv2d_generic.cu. T is any type of dispatch_floating; `stream` is a cudaStream_t, the result
// a cudaError_t. Tensors have any strides.
#pragma once

#include "common/conv2d_shape.h"
#include "common/half.h"
#include "common/pool2d_shape.h"

namespace convkit::cuda {

template <typename T>
struct Conv2dGeneric {
  Conv2dShape shape;
  View4d<const T> input, weight;
  const T* bias;  // or null
  int64_t bias_stride;
  bool relu;
};

template <typename T>
int launch_conv2d_generic(const Conv2dGeneric<T>& conv, const View4d<T>& output, void* stream);

// Convolution, bias, ReLU and max-pooling. Where windows of the pool overlap, pixels are computed again.
template <typename T>
struct Conv2dGenericPool {
  Conv2dGeneric<T> conv;
  Pool2dShape pool;
  View4d<T> output;
  uint8_t* taps;  // of the output's strides, or null
  bool channels_last;
};

template <typename T>
int launch_conv2d_generic_max_pool2d(const Conv2dGenericPool<T>& fused, void* stream);

template <typename T>
int launch_conv2d_generic_backward_input(const Conv2dShape& shape, const View4d<const T>& grad_output,
                                         const View4d<const T>& weight, const View4d<T>& grad_input, void* stream);

template <typename T>
int launch_conv2d_generic_backward_weight(const Conv2dShape& shape, const View4d<const T>& grad_output,
                                          const View4d<const T>& input, const View4d<T>& grad_weight, void* stream);

}  // namespace convkit::cuda
