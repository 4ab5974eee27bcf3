// Launchers of csrc/cuda/bias.cu. T is any type of dispatch_floating; `stream` is a cudaStream_t, the result a
// cudaError_t.
#pragma once

#include <type_traits>

#include "common/conv2d_shape.h"
#include "common/half.h"

namespace convkit::cuda {

// sums[c] of a tensor [n, c, h, w] of any strides, in a fixed order. `parts` partial sums of each channel, [parts, c],
// are kept in `partial` where there is more than one; channel_sum_parts says how many to take.
template <typename T>
struct ChannelSums {
  using Partial = std::conditional_t<std::is_same_v<T, double>, double, float>;

  int64_t n, c, h, w;
  View4d<const T> input;
  T* sums;
  Partial* partial;
  int64_t parts;
};

// By the size alone, so that the same call gives the same bits on every GPU.
int64_t channel_sum_parts(int64_t n, int64_t c, int64_t h, int64_t w);

template <typename T>
int launch_channel_sums(const ChannelSums<T>& problem, void* stream);

}  // namespace convkit::cuda
