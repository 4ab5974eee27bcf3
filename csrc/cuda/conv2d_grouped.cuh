// How grouped kernels cut their work. A thread owns a quad: four filters of one group, or in a depthwise convolution
// four channels. The threads of a block lie along quads and along pixels.
#pragma once

#include "cuda/conv2d_gemm.h"
#include "cuda/index.cuh"

namespace convkit::cuda {

constexpr int kQuad = 4;

struct Quad {
  int64_t group;  // the first one
  int filter;     // the first one in the group
  int count;      // of filters, none beyond the last group
};

template <bool Depthwise, typename T, typename Out>
__device__ Quad quad_at(const ConvGemm<T, Out>& p, int64_t number) {
  if constexpr (Depthwise) return {number * kQuad, 0, static_cast<int>(clamp(p.groups - number * kQuad, 0, kQuad))};
  const int64_t group = divide(number, (p.filters + kQuad - 1) / kQuad);  // leaves the number within the group
  const int filter = static_cast<int>(number) * kQuad;
  return {group, filter, group < p.groups ? static_cast<int>(min(p.filters - filter, kQuad)) : 0};
}

template <typename T, typename Out>
constexpr bool is_depthwise(const ConvGemm<T, Out>& p) {
  return p.channels == 1 && p.filters == 1;
}

template <typename T, typename Out>
int64_t quad_count(const ConvGemm<T, Out>& p) {
  return is_depthwise(p) ? ceil_div(p.groups, kQuad) : p.groups * ceil_div(p.filters, kQuad);
}

// Threads of a block that lie along quads: a power of two, up to 128 bytes of floats of a channels_last pixel.
inline int threads_along_quads(int64_t quads, bool channels_last) {
  int threads = 1;
  while (channels_last && threads < 8 && threads < quads) threads *= 2;
  return threads;
}

template <typename T>
struct alignas(kQuad * sizeof(T)) Four {
  T lane[kQuad];
};

// Whether quads of `channels` neighbouring channels can be loaded and stored at once.
template <typename T>
bool has_whole_quads(const View4d<T>& x, int64_t channels) {
  return x.c == 1 && channels % kQuad == 0 && x.n % kQuad == 0 && x.h % kQuad == 0 && x.w % kQuad == 0 &&
         reinterpret_cast<uintptr_t>(x.data) % sizeof(Four<T>) == 0;
}

// The first `count` of four channels, `step` elements apart, as floats; zeros for the others. Whole: all four lie
// together.
template <bool Whole, typename T>
__device__ void load_quad(const T* from, int64_t step, int count, float (&to)[kQuad]) {
  if constexpr (Whole) {
    const Four<T> four = *reinterpret_cast<const Four<T>*>(from);
#pragma unroll
    for (int i = 0; i < kQuad; ++i) to[i] = float(four.lane[i]);
  } else {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) to[i] = i < count ? float(from[i * step]) : 0.0f;
  }
}

}  // namespace convkit::cuda
