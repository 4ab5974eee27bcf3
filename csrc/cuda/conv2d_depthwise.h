// Launchers of csrc/cuda/conv2d_depthwise.cu, for windows of depthwise_takes(). T is float, BFloat16 or Half; `stream`
// is a cudaStream_t, the result a cudaError_t. Tensors have any strides; channels_last ones are read in vectors.
#pragma once

#include "common/conv2d_shape.h"
#include "common/half.h"
#include "common/int_math.h"

namespace convkit::cuda {

// Whether there are kernels for such a window: 3x3, 5x5 or 7x7, of stride 1 or 2, not dilated, with positions in a row
// that fit 32 bits.
constexpr bool depthwise_takes(const Conv2dShape& s) {
  return s.kh == s.kw && (s.kh == 3 || s.kh == 5 || s.kh == 7) && s.stride_h == s.stride_w && s.stride_h <= 2 &&
         s.dilation_h == 1 && s.dilation_w == 1 && max(s.iw, s.ow) + s.pad_left < (1 << 29);
}

// `input` is grad_output and `output` grad_input where the gradient of the input is meant; no bias and ReLU then.
template <typename T>
struct Conv2dDepthwise {
  Conv2dShape shape;
  View4d<const T> input, weight;
  const T* bias;  // or null
  int64_t bias_stride;
  bool relu;
  View4d<T> output;
};

template <typename T>
int launch_conv2d_depthwise(const Conv2dDepthwise<T>& conv, void* stream);

template <typename T>
int launch_conv2d_depthwise_backward_input(const Conv2dDepthwise<T>& conv, void* stream);

template <typename T>
struct Conv2dDepthwiseBackwardWeight {
  Conv2dShape shape;
  View4d<const T> input, grad_output;
  View4d<T> grad_weight;
  float* partial;  // [parts, c, kh, kw]
  int64_t parts;
};

// How many partial sums to take: by the shape alone, so that the same call gives the same bits on every GPU.
int64_t conv2d_depthwise_parts(const Conv2dShape& shape);

template <typename T>
int launch_conv2d_depthwise_backward_weight(const Conv2dDepthwiseBackwardWeight<T>& conv, void* stream);

}  // namespace convkit::cuda
