// Max-pooling of float32 with torch's rule: through the window in row-major order, `v > max or v is NaN` takes over, so
// the first maximum and the last NaN win. Values only, or with the winner's tap.
//
// channels_last: vectors run over channels, and a window is a plain loop. Contiguous: vectors run over output columns.
// Each input row of the window is copied to scratch with -inf around it, so that no vector meets an edge; with stride 2
// a vector is the even lanes of two loads. Rows come in order and columns inside them, so the rule holds without
// comparing taps.
#pragma once

#include "cpu/kernels/max_pool2d.h"
#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

constexpr float kLowest = -__builtin_inff();

// Taps are compared as integers as wide as a float and stored as bytes. They pass through a block of memory, because
// loops over one become the ISA's own packing instructions, which conversions of a single vector do not.
constexpr int64_t kTapBlock = 256;

inline void narrow_taps(const int32_t* wide, uint8_t* taps, int64_t count) {
  for (int64_t i = 0; i < count; ++i) taps[i] = static_cast<uint8_t>(wide[i]);
}
inline void widen_taps(const uint8_t* taps, int32_t* wide, int64_t count) {
  for (int64_t i = 0; i < count; ++i) wide[i] = taps[i];
}

inline IntVec broadcast_int(int32_t x) { return x + IntVec{}; }

template <bool kTaps>
struct Winner {
  Vec value;
  IntVec tap;

  inline void meet(Vec v, int32_t position) {
    const IntVec wins = (v > value) | (v != v);
    value = wins ? v : value;
    if constexpr (kTaps) tap = wins ? broadcast_int(position) : tap;
  }
};

// kWindow > 0: a window of kWindow x kWindow that lies inside; its loops unroll.
template <bool kTaps, int kWindow>
inline void pool_channels(const MaxPool2d& pool, const float* window, WindowRange h, WindowRange w, int64_t out) {
  const Pool2dShape& s = pool.shape;
  const int64_t row = s.dilation_h * pool.input.h, column = s.dilation_w * pool.input.w;
  const int64_t last_i = kWindow ? kWindow : h.end, last_j = kWindow ? kWindow : w.end;
  const int32_t width = kWindow ? kWindow : static_cast<int32_t>(s.kw);
  int32_t wide[kTapBlock];
  for (int64_t c = 0; c < s.c; c += kLanes) {
    const int64_t count = min(kLanes, s.c - c);
    Winner<kTaps> winner{broadcast(kLowest), broadcast_int(static_cast<int32_t>(h.begin * s.kw + w.begin))};
#pragma GCC unroll 3
    for (int64_t i = kWindow ? 0 : h.begin; i < last_i; ++i) {
#pragma GCC unroll 3
      for (int64_t j = kWindow ? 0 : w.begin; j < last_j; ++j) {
        const float* p = window + i * row + j * column + c;
        winner.meet(count == kLanes ? load(p) : load_first(p, count), static_cast<int32_t>(i * width + j));
      }
    }
    if (count == kLanes)
      store(pool.output.data + out + c, winner.value);
    else
      store_first(pool.output.data + out + c, winner.value, count);
    if constexpr (kTaps) {
      store(wide + c % kTapBlock, winner.tap);
      const int64_t done = c % kTapBlock + count;
      if (done >= kTapBlock || c + count == s.c) narrow_taps(wide, pool.taps + out + c - c % kTapBlock, done);
    }
  }
}

template <bool kTaps, int kWindow>
void pool_channels_last_row(const MaxPool2d& pool, int64_t n, int64_t oh) {
  const Pool2dShape& s = pool.shape;
  const WindowRange h = window_h(s, oh);
  const float* x = pool.input.data + n * pool.input.n + (oh * s.stride_h - s.pad_h) * pool.input.h;
  for (int64_t ow = 0; ow < s.ow; ++ow) {
    const WindowRange w = window_w(s, ow);
    const float* window = x + (ow * s.stride_w - s.pad_w) * pool.input.w;
    const int64_t out = n * pool.output.n + oh * pool.output.h + ow * pool.output.w;
    const bool full = h.end - h.begin == s.kh && w.end - w.begin == s.kw;
    full ? pool_channels<kTaps, kWindow>(pool, window, h, w, out) : pool_channels<kTaps, 0>(pool, window, h, w, out);
  }
}

template <bool kTaps>
void pool_channels_last_row_of_window(const MaxPool2d& pool, int64_t n, int64_t oh) {
  const int64_t window = pool.shape.kh == pool.shape.kw ? pool.shape.kh : 0;
  if (window == 2) return pool_channels_last_row<kTaps, 2>(pool, n, oh);
  if (window == 3) return pool_channels_last_row<kTaps, 3>(pool, n, oh);
  pool_channels_last_row<kTaps, 0>(pool, n, oh);
}

void max_pool2d_channels_last_row(const MaxPool2d& pool, int64_t n, int64_t oh) {
  pool.taps ? pool_channels_last_row_of_window<true>(pool, n, oh)
            : pool_channels_last_row_of_window<false>(pool, n, oh);
}

template <int... Lane>
inline Vec even_lanes(Vec low, Vec high, std::integer_sequence<int, Lane...>) {
  return pick(low, high, std::integer_sequence<int, 2 * Lane...>{});
}

// p[0], p[stride], p[2 * stride], ...
template <int kStride>  // 0: any
inline Vec load_strided(const float* p, int64_t stride) {
  if constexpr (kStride == 1) return load(p);
  if constexpr (kStride == 2) return even_lanes(load(p), load(p + kLanes), std::make_integer_sequence<int, kLanes>{});
  Vec v;
  for (int lane = 0; lane < kLanes; ++lane) v[lane] = p[lane * stride];
  return v;
}

template <bool kTaps, int kStride>
void pool_plane_rows(const MaxPool2d& pool, int64_t begin, int64_t end, float* scratch) {
  const Pool2dShape& s = pool.shape;
  const int64_t padded = max_pool2d_row_floats(s, kLanes);
  int32_t* first = reinterpret_cast<int32_t*>(scratch + s.kh * padded);  // of each column, the first position inside
  for (int64_t i = 0; i < s.kh * padded; ++i) scratch[i] = kLowest;
  if constexpr (kTaps)
    for (int64_t ow = 0; ow < round_up(s.ow, kLanes); ++ow) first[ow] = static_cast<int32_t>(window_w(s, ow).begin);
  const float* input_end =
      pool.input.data + (s.n - 1) * pool.input.n + (s.c - 1) * pool.input.c + (s.ih - 1) * pool.input.h + s.iw;
  int64_t oh = begin % s.oh, c = begin / s.oh % s.c, n = begin / s.oh / s.c;
  for (int64_t r = begin; r < end; ++r, ++oh) {
    if (oh == s.oh) oh = 0, ++c;
    if (c == s.c) c = 0, ++n;
    const WindowRange h = window_h(s, oh);
    const float* image =
        pool.input.data + n * pool.input.n + c * pool.input.c + (oh * s.stride_h - s.pad_h) * pool.input.h;
    const int64_t row_step = s.dilation_h * pool.input.h;
    // A row is read where it lies if no lane that counts meets an edge and no load passes the end of the tensor.
    const float* rows = image;
    int64_t rows_step = row_step;
    if (s.pad_w > 0 || (s.ow - 1) * s.stride_w + (s.kw - 1) * s.dilation_w >= s.iw ||
        image + (h.end - 1) * row_step + padded > input_end) {
      for (int64_t i = h.begin; i < h.end; ++i)
        std::memcpy(scratch + i * padded + s.pad_w, image + i * row_step, s.iw * sizeof(float));
      rows = scratch, rows_step = padded;
    }
    const int64_t out = n * pool.output.n + c * pool.output.c + oh * pool.output.h;
    int32_t wide[kTapBlock];
    const int32_t first_row = static_cast<int32_t>(h.begin * s.kw);
    for (int64_t ow = 0; ow < s.ow; ow += kLanes) {
      Winner<kTaps> winner{broadcast(kLowest), IntVec{}};
      if constexpr (kTaps) winner.tap = load(first + ow) + broadcast_int(first_row);
      for (int64_t i = h.begin; i < h.end; ++i) {
        const float* p = rows + i * rows_step + ow * s.stride_w;
        for (int64_t j = 0; j < s.kw; ++j, p += s.dilation_w)
          winner.meet(load_strided<kStride>(p, s.stride_w), static_cast<int32_t>(i * s.kw + j));
      }
      const int64_t count = min(kLanes, s.ow - ow);
      if (count == kLanes)
        store(pool.output.data + out + ow, winner.value);
      else
        store_first(pool.output.data + out + ow, winner.value, count);
      if constexpr (kTaps) {
        store(wide + ow % kTapBlock, winner.tap);
        const int64_t done = ow % kTapBlock + count;
        if (done >= kTapBlock || ow + count == s.ow) narrow_taps(wide, pool.taps + out + ow - ow % kTapBlock, done);
      }
    }
  }
}

template <bool kTaps>
void pool_plane_rows_of_stride(const MaxPool2d& pool, int64_t begin, int64_t end, float* scratch) {
  switch (pool.shape.stride_w) {
    case 1:
      return pool_plane_rows<kTaps, 1>(pool, begin, end, scratch);
    case 2:
      return pool_plane_rows<kTaps, 2>(pool, begin, end, scratch);
    default:
      return pool_plane_rows<kTaps, 0>(pool, begin, end, scratch);
  }
}

void max_pool2d_plane_rows(const MaxPool2d& pool, int64_t begin, int64_t end, float* scratch) {
  pool.taps ? pool_plane_rows_of_stride<true>(pool, begin, end, scratch)
            : pool_plane_rows_of_stride<false>(pool, begin, end, scratch);
}

}  // namespace
}  // namespace convkit
