// The gradient of max-pooling where windows are two apart: a thread has pairs of rows and columns, so that which window
// holds which of its pixels, and at which tap, is known when this is compiled.
#pragma once

#include "cuda/max_pool2d.cuh"
#include "cuda/max_pool2d.h"

namespace convkit::cuda {

// The gradients of a pixel are added up in this type, as on the CPU.
template <typename T>
using GradientSum = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Windows of K x K two apart, seen from pairs of pixels: pixel 2 r + i of a dimension is at position i + Pad - 2 a of
// window r + a, for a from kFirst to kLast.
template <int K, int Pad>
struct TwoApart {
  static constexpr int kFirst = -((K - Pad - 1) / 2), kLast = (1 + Pad) / 2;
  static constexpr int position(int pixel, int window) { return pixel + Pad - 2 * window; }
  static constexpr bool holds(int pixel, int window) {
    return position(pixel, window) >= 0 && position(pixel, window) < K;
  }
  // The tap at which window (a, b) holds pixel (r, c), or -1.
  static constexpr int tap(int r, int c, int a, int b) {
    return holds(r, a) && holds(c, b) ? position(r, a) * K + position(c, b) : -1;
  }
};

// Contiguous planes: a thread takes four pairs of columns of a pair of rows.
template <typename T, int K, int Pad>
__global__ void __launch_bounds__(kThreads, 2)
    backward_strips_kernel(MaxPool2dBackward<T, uint8_t> pool, int strips, int64_t count) {
  using Windows = TwoApart<K, Pad>;
  constexpr int kPairs = 4, kColumns = 2 * kPairs;
  const Pool2dShape& s = pool.shape;
  const int ih = static_cast<int>(s.ih), iw = static_cast<int>(s.iw);
  const int oh = static_cast<int>(s.oh), ow = static_cast<int>(s.ow), row_pairs = (ih + 1) / 2;
  for_each_index(count, [&](int64_t index) {
    int64_t strip = index, pair = divide(strip, strips);
    const int64_t plane = divide(pair, row_pairs);
    const int h0 = static_cast<int>(pair), w0 = static_cast<int>(strip) * kPairs;
    const uint8_t* taps = pool.taps.data + plane * s.oh * s.ow;
    const T* grads = pool.grad_output.data + plane * s.oh * s.ow;
    GradientSum<T> sum[2][kColumns] = {};
#pragma unroll
    for (int a = Windows::kFirst; a <= Windows::kLast; ++a) {
#pragma unroll
      for (int b = Windows::kFirst; b < kPairs + Windows::kLast; ++b) {
        if (!is_below(h0 + a, oh) || !is_below(w0 + b, ow)) continue;
        const int at = (h0 + a) * ow + w0 + b;
        const int tap = taps[at];
        const auto grad = GradientSum<T>(grads[at]);
#pragma unroll
        for (int r = 0; r < 2; ++r)
#pragma unroll
          for (int c = 0; c < kColumns; ++c)
            if (tap == Windows::tap(r, c, a, b)) sum[r][c] += grad;
      }
    }
    T* out = pool.grad_input.data + (plane * s.ih + 2 * h0) * s.iw + 2 * w0;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (2 * h0 + r >= ih) continue;
#pragma unroll
      for (int c = 0; c < kColumns; c += 4) {
        Lanes4<T> lanes;
#pragma unroll
        for (int l = 0; l < 4; ++l) lanes.lane[l] = T(sum[r][c + l]);
        const int left = iw - 2 * w0 - c;
        if (iw % 4 == 0) {
          if (left > 0) *reinterpret_cast<Lanes4<T>*>(out + r * iw + c) = lanes;
        } else {
          for (int l = 0; l < 4 && l < left; ++l) out[r * iw + c + l] = lanes.lane[l];
        }
      }
    }
  });
}

// channels_last, everything in whole packs: a thread takes a pack of 2x2 pixels.
template <typename T, int K, int Pad>
__global__ void __launch_bounds__(kThreads, 2)
    backward_channels_last_blocks_kernel(MaxPool2dBackward<T, uint8_t> pool, int64_t count) {
  using Windows = TwoApart<K, Pad>;
  constexpr int kLanes = Pack<T>::kLanes;
  const Pool2dShape& s = pool.shape;
  const int ih = static_cast<int>(s.ih), iw = static_cast<int>(s.iw);
  const int oh = static_cast<int>(s.oh), ow = static_cast<int>(s.ow);
  for_each_index(count, [&](int64_t index) {
    const Index4d at = index_4d(index, s.c / kLanes, (ih + 1) / 2, (iw + 1) / 2, true);
    const int h0 = static_cast<int>(at.h), w0 = static_cast<int>(at.w);
    GradientSum<T> sum[2][2][kLanes] = {};
#pragma unroll
    for (int a = Windows::kFirst; a <= Windows::kLast; ++a) {
#pragma unroll
      for (int b = Windows::kFirst; b <= Windows::kLast; ++b) {
        if (!is_below(h0 + a, oh) || !is_below(w0 + b, ow)) continue;
        const Index4d window{at.n, at.c * kLanes, h0 + a, w0 + b};
        const auto taps = reinterpret_cast<const TapPack<uint8_t, kLanes>&>(element(pool.taps, window));
        const auto grads = reinterpret_cast<const Pack<T>&>(element(pool.grad_output, window));
#pragma unroll
        for (int l = 0; l < kLanes; ++l)
#pragma unroll
          for (int r = 0; r < 2; ++r)
#pragma unroll
            for (int c = 0; c < 2; ++c)
              if (taps.lane[l] == Windows::tap(r, c, a, b)) sum[r][c][l] += GradientSum<T>(grads.lane[l]);
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        if (2 * h0 + r >= ih || 2 * w0 + c >= iw) continue;
        Pack<T> result;
#pragma unroll
        for (int l = 0; l < kLanes; ++l) result.lane[l] = T(sum[r][c][l]);
        const Index4d pixel{at.n, at.c * kLanes, 2 * h0 + r, 2 * w0 + c};
        reinterpret_cast<Pack<T>&>(element(pool.grad_input, pixel)) = result;
      }
    }
  });
}

template <typename T, int K, int Pad>
int launch_two_apart(const MaxPool2dBackward<T, uint8_t>& pool, void* stream) {
  const Pool2dShape& s = pool.shape;
  if (pool.channels_last) {
    const int64_t count = s.n * (s.c / Pack<T>::kLanes) * ((s.ih + 1) / 2) * ((s.iw + 1) / 2);
    return launch(backward_channels_last_blocks_kernel<T, K, Pad>, {blocks_for(count), kThreads}, stream, pool, count);
  }
  const auto strips = static_cast<int>(ceil_div(s.iw, 8));
  const int64_t count = s.n * s.c * ((s.ih + 1) / 2) * strips;
  return launch(backward_strips_kernel<T, K, Pad>, {blocks_for(count), kThreads}, stream, pool, strips, count);
}

}  // namespace convkit::cuda
