// Launchers of csrc/cuda/max_pool2d.cu. T is any type of dispatch_real (forward) or dispatch_floating, Tap uint8_t or
// int32_t; a tap of -1, as a byte 255, is none. `stream` is a cudaStream_t, the result a cudaError_t.
#pragma once

#include "common/conv2d_shape.h"
#include "common/half.h"
#include "common/pool2d_shape.h"

namespace convkit::cuda {

template <typename T, typename Tap>
struct MaxPool2d {
  Pool2dShape shape;
  View4d<const T> input;
  View4d<T> output;  // dense in its format
  Tap* taps;         // as the output, or null
  bool channels_last;
  bool has_relu;  // the input is a ReLU's: a window without a positive value gets the tap of none
};

template <typename T, typename Tap>
int launch_max_pool2d(const MaxPool2d<T, Tap>& pool, void* stream);

// All dense in one format.
template <typename T, typename Tap>
struct MaxPool2dBackward {
  Pool2dShape shape;
  View4d<const T> grad_output;
  View4d<const Tap> taps;
  View4d<T> grad_input;
  bool channels_last;
};

template <typename T, typename Tap>
int launch_max_pool2d_backward(const MaxPool2dBackward<T, Tap>& pool, void* stream);

// Positions h * iw + w of the winners, in a tensor that is dense in either format; 0 where there is none.
template <typename Tap>
int launch_max_pool2d_indices(const Pool2dShape& shape, const View4d<const Tap>& taps, const View4d<int64_t>& indices,
                              void* stream);

// The input at the winners; 0 where there is none.
template <typename T, typename Tap>
int launch_max_pool2d_gather(const Pool2dShape& shape, const View4d<const T>& input, const View4d<const Tap>& taps,
                             const View4d<T>& output, void* stream);

}  // namespace convkit::cuda
