// How depthwise kernels cut their work: a block owns up to 128 channels, whose weights it keeps in shared memory; a
// thread owns a vector of channels (one in contiguous planes) and strips of kStrip pixels of a row.
#pragma once

#include "common/half.h"
#include "cuda/index.cuh"
#include "cuda/pack.cuh"

namespace convkit::cuda {

constexpr int kStrip = 4;
constexpr int kBlockChannels = 128;

// Threads of a block that lie along channels: a power of two, so that whole rows of threads fit.
inline int threads_along_channels(int64_t channels, int lanes, bool channels_last) {
  if (!channels_last) return 1;
  int threads = 1;
  while (threads * lanes < kBlockChannels && threads * lanes < channels) threads *= 2;
  return threads;
}

// A thread's place: its first channel, and which strips it takes.
template <int Lanes>
struct DepthwiseThread {
  int column, row, columns, rows;  // of threads, along channels and along strips
  int64_t channel;

  __device__ explicit DepthwiseThread(int columns)
      : column(threadIdx.x % columns),
        row(threadIdx.x / columns),
        columns(columns),
        rows(kThreads / columns),
        channel((int64_t{blockIdx.x} * columns + column) * Lanes) {}
};

// Lanes neighbouring channels as floats.
template <int Lanes, typename T>
__device__ void load_lanes(const T* from, float (&to)[Lanes]) {
  if constexpr (Lanes == 1) {
    to[0] = float(*from);
  } else {
    constexpr int kPack = Pack<T>::kLanes;
#pragma unroll
    for (int i = 0; i < Lanes; i += kPack) {
      const Pack<T> pack = *reinterpret_cast<const Pack<T>*>(from + i);
#pragma unroll
      for (int l = 0; l < kPack; ++l) to[i + l] = float(pack.lane[l]);
    }
  }
}

template <int Lanes, typename T>
__device__ void store_lanes(T* to, const float (&from)[Lanes]) {
  if constexpr (Lanes == 1) {
    *to = T(from[0]);
  } else {
    Pack<T> pack;
#pragma unroll
    for (int l = 0; l < Lanes; ++l) pack.lane[l] = T(from[l]);
    *reinterpret_cast<Pack<T>*>(to) = pack;
  }
}

// Whether channels can be taken Lanes at a time.
template <int Lanes, typename T>
bool has_whole_lanes(const View4d<T>& view, int64_t channels) {
  return view.c == 1 && channels % Lanes == 0 && view.n % Lanes == 0 && view.h % Lanes == 0 && view.w % Lanes == 0 &&
         are_aligned(view.data);
}

}  // namespace convkit::cuda
