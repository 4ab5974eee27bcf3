// The maximum of one window, for every kernel that pools.
#pragma once

#include <limits>

#include "common/pool2d_shape.h"
#include "cuda/index.cuh"
#include "cuda/pack.cuh"
#include "cuda/relu.cuh"

namespace convkit::cuda {

template <typename T>
constexpr T lowest() {
  if constexpr (std::numeric_limits<T>::is_specialized)
    return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity()
                                                : std::numeric_limits<T>::lowest();
  else
    return T(-std::numeric_limits<float>::infinity());  // BFloat16, Half
}

template <typename T>
__device__ Pack<T> lowest_pack() {
  Pack<T> pack;
#pragma unroll
  for (T& lane : pack.lane) lane = lowest<T>();
  return pack;
}

template <typename T>
struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) Lanes4 {
  T lane[4];
};

// 0 <= x < limit.
__device__ inline bool is_below(int x, int limit) { return static_cast<unsigned>(x) < static_cast<unsigned>(limit); }

// Keeps the first maximum, or the last NaN.
template <typename T>
struct Winner {
  T value = lowest<T>();
  int tap = -1;  // which as a byte is kDeadTap: none

  // What is stored of the tap; after a ReLU, none if the value passes no gradient.
  template <typename Tap>
  __device__ Tap stored_tap(bool has_relu) const {
    return static_cast<Tap>(has_relu && is_not_positive(value) ? -1 : tap);
  }

  __device__ void offer(T x, int64_t at) {
    if (x > value || x != x) value = x, tap = static_cast<int>(at);
  }
};

// The tap of a window in which nothing is above the lowest number: the first inside the image; but of floating types in
// the channels_last format torch gives index 0 on CUDA, and no gradient unless that is the window's first position.
template <typename T>
__device__ int64_t tap_of_none(const Pool2dShape& s, const Index4d& at, bool channels_last) {
  const WindowRange h = window_h(s, at.h), w = window_w(s, at.w);
  const bool is_origin = at.h * s.stride_h - s.pad_h + h.begin * s.dilation_h == 0 &&
                         at.w * s.stride_w - s.pad_w + w.begin * s.dilation_w == 0;
  return channels_last && !std::is_integral_v<T> && !is_origin ? -1 : h.begin * s.kw + w.begin;
}

// Of the window of output[at]; load(h, w) is the image.
template <typename T, typename Load>
__device__ Winner<T> max_of_window(const Pool2dShape& s, const Index4d& at, bool channels_last, const Load& load) {
  const WindowRange h = window_h(s, at.h), w = window_w(s, at.w);
  const int64_t h0 = at.h * s.stride_h - s.pad_h, w0 = at.w * s.stride_w - s.pad_w;
  Winner<T> winner;
  for (int64_t i = h.begin; i < h.end; ++i)
    for (int64_t j = w.begin; j < w.end; ++j)
      winner.offer(load(h0 + i * s.dilation_h, w0 + j * s.dilation_w), i * s.kw + j);
  if (winner.tap < 0) winner.tap = static_cast<int>(tap_of_none<T>(s, at, channels_last));
  return winner;
}

// The taps of as many values, loaded and stored at once.
template <typename Tap, int Lanes>
struct alignas(Lanes * sizeof(Tap) < 16 ? Lanes * sizeof(Tap) : 16) TapPack {
  Tap lane[Lanes];
};

// Whether 2x2 windows tile planes whose rows are whole packs.
template <typename T>
bool are_tiles(const Pool2dShape& s) {
  return s.kh == 2 && s.kw == 2 && s.stride_h == 2 && s.stride_w == 2 && s.pad_h == 0 && s.pad_w == 0 &&
         s.dilation_h == 1 && s.dilation_w == 1 && s.ih == 2 * s.oh && s.iw == 2 * s.ow && s.iw % Pack<T>::kLanes == 0;
}

// Whether all positions of contiguous planes, padding counted, fit 32 bits, and the window is square and not dilated.
inline bool are_small_squares(const Pool2dShape& s) {
  constexpr int64_t kLargest = 1 << 30;
  return s.kh == s.kw && s.stride_h == s.stride_w && s.dilation_h == 1 && s.dilation_w == 1 && s.stride_h < kLargest &&
         s.ih * s.iw < kLargest && (s.oh + 1) * s.stride_h < kLargest && (s.ow + 1) * s.stride_w < kLargest;
}

// Windows two apart, whose padding is at most one and the same on all sides.
inline bool are_two_apart(const Pool2dShape& s) {
  return are_small_squares(s) && s.stride_h == 2 && s.pad_h == s.pad_w && s.pad_h <= 1;
}

// Of 3x3, on rows of whole packs.
template <typename T>
bool are_strips(const Pool2dShape& s) {
  return are_two_apart(s) && s.kh == 3 && s.iw % Pack<T>::kLanes == 0;
}

}  // namespace convkit::cuda
