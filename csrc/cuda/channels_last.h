// Launcher of csrc/cuda/channels_last.cu; `stream` is a cudaStream_t, the result a cudaError_t.
#pragma once

#include "common/conv2d_shape.h"

namespace convkit::cuda {

// output[n][h][w][c], dense, of an input of any strides.
template <typename T>
struct ChannelsLast {
  View4d<const T> input;
  T* output;
  int64_t n, c, h, w;  // c in whole vectors of 16 bytes
};
template <typename T>
int launch_channels_last(const ChannelsLast<T>& problem, void* stream);

}  // namespace convkit::cuda
