// Max-pooling of float32 with torch's rule: through the window in row-major order, `v > max or v is NaN` takes over, so
// the first maximum and the last NaN win. Values only, or with the winner's tap.
//
// channels_last: vectors run over channels, and a window is a plain loop. Contiguous: vectors run over output columns.
// Input rows are copied to scratch with -inf around them, so that no vector meets an edge, a few output rows' at a
// time: loads soon after the stores would wait for them. With stride 2 a vector is the even lanes of two loads. Rows
// come in order and columns inside them, so the rule holds without comparing taps.
#pragma once

#include "cpu/kernels/max_pool2d.h"
#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

constexpr float kLowest = -__builtin_inff();

// What is known of a window of each lane. kExact is the whole rule. Without it a NaN is not followed but noticed, which
// is cheaper: it stays in the sum of what was met, and the caller starts again with kExact. (A sum of opposite
// infinities is a NaN too: that costs time, not correctness.)
template <bool kTaps, bool kExact>
struct Winner {
  Vec value = broadcast(kLowest);
  IntVec tap;
  Vec sum{};

  inline void meet(Vec v, int32_t position) {
    if constexpr (kTaps) {
      const IntVec wins = kExact ? (v > value) | (v != v) : v > value;
      tap = wins ? broadcast_int(position) : tap;
    }
    if constexpr (kExact) {
      value = (v > value) | (v != v) ? v : value;
    } else {
      value = v > value ? v : value;
      sum += v;
    }
  }
  inline IntVec met_nan() const { return sum != sum; }
};

// One window of a channels_last image: its first position in memory and its range.
struct ChannelsWindow {
  const float* data;
  WindowRange h, w;
  int64_t out;
};

// kWindow > 0: a window of kWindow x kWindow that lies inside; its loops unroll. Returns where NaNs were met.
template <bool kTaps, bool kExact, int kWindow, bool kFull>
inline IntVec pool_channels(const MaxPool2d& pool, const ChannelsWindow& window, int64_t c, int64_t count) {
  const Pool2dShape& s = pool.shape;
  const auto [data, h, w, out] = window;
  const int64_t row = s.dilation_h * pool.input.h, column = s.dilation_w * pool.input.w;
  const int64_t last_i = kWindow ? kWindow : h.end, last_j = kWindow ? kWindow : w.end;
  const int32_t width = kWindow ? kWindow : static_cast<int32_t>(s.kw);
  Winner<kTaps, kExact> winner;
  if constexpr (kTaps) winner.tap = broadcast_int(static_cast<int32_t>(h.begin * s.kw + w.begin));
#pragma GCC unroll 3
  for (int64_t i = kWindow ? 0 : h.begin; i < last_i; ++i) {
#pragma GCC unroll 3
    for (int64_t j = kWindow ? 0 : w.begin; j < last_j; ++j) {
      const float* p = data + i * row + j * column + c;
      prefetch_ahead(p);
      winner.meet(kFull ? load(p) : load_first(p, count), static_cast<int32_t>(i * width + j));
    }
  }
  float* y = pool.output.data + out + c;
  kFull ? store_far(y, winner.value) : store_first(y, winner.value, count);
  if constexpr (kTaps)
    kFull ? store_bytes(pool.taps + out + c, winner.tap) : store_first_bytes(pool.taps + out + c, winner.tap, count);
  return winner.met_nan();
}

template <bool kTaps, bool kExact, int kWindow>
inline IntVec pool_all_channels(const MaxPool2d& pool, const ChannelsWindow& window) {
  IntVec nan{};
  int64_t c = 0;
  for (; c + kLanes <= pool.shape.c; c += kLanes)
    nan |= pool_channels<kTaps, kExact, kWindow, true>(pool, window, c, kLanes);
  if (c < pool.shape.c) nan |= pool_channels<kTaps, kExact, kWindow, false>(pool, window, c, pool.shape.c - c);
  return nan;
}

// Returns whether the row holds: it may not where a NaN was met without kExact.
template <bool kTaps, bool kExact, int kWindow>
bool pool_channels_last_row(const MaxPool2d& problem, int64_t n, int64_t oh) {
  const MaxPool2d pool = problem;  // a copy, of which compilers know that no store changes it
  const Pool2dShape& s = pool.shape;
  const WindowRange h = window_h(s, oh);
  const float* x = pool.input.data + n * pool.input.n + (oh * s.stride_h - s.pad_h) * pool.input.h;
  IntVec nan{};
  for (int64_t ow = 0; ow < s.ow; ++ow) {
    const WindowRange w = window_w(s, ow);
    const ChannelsWindow window{x + (ow * s.stride_w - s.pad_w) * pool.input.w, h, w,
                                n * pool.output.n + oh * pool.output.h + ow * pool.output.w};
    const bool full = h.end - h.begin == s.kh && w.end - w.begin == s.kw;
    nan |= full ? pool_all_channels<kTaps, kExact, kWindow>(pool, window)
                : pool_all_channels<kTaps, kExact, 0>(pool, window);
  }
  return kExact || !any(nan);
}

template <bool kTaps>
void pool_channels_last_row_of_window(const MaxPool2d& pool, int64_t n, int64_t oh) {
  const int64_t window = pool.shape.kh == pool.shape.kw ? pool.shape.kh : 0;
  const bool holds = window == 2   ? pool_channels_last_row<kTaps, false, 2>(pool, n, oh)
                     : window == 3 ? pool_channels_last_row<kTaps, false, 3>(pool, n, oh)
                                   : pool_channels_last_row<kTaps, false, 0>(pool, n, oh);
  if (!holds) pool_channels_last_row<kTaps, true, 0>(pool, n, oh);
}

void max_pool2d_channels_last_row(const MaxPool2d& pool, int64_t n, int64_t oh) {
  pool.taps ? pool_channels_last_row_of_window<true>(pool, n, oh)
            : pool_channels_last_row_of_window<false>(pool, n, oh);
}

// p[0], p[stride], p[2 * stride], ...
template <int kStride>  // 0: any
inline Vec load_strided(const float* p, int64_t stride) {
  if constexpr (kStride == 1) return load(p);
  if constexpr (kStride == 2) return load_even(p);
  Vec v;
  for (int lane = 0; lane < kLanes; ++lane) v[lane] = p[lane * stride];
  return v;
}

// Returns whether the rows hold, as above. kWidth > 0: the window's width; its loop unrolls.
template <bool kTaps, bool kExact, int kStride, int kWidth>
bool pool_plane_rows(const MaxPool2d& problem, int64_t begin, int64_t end, float* scratch) {
  const MaxPool2d pool = problem;  // a copy, of which compilers know that no store changes it
  const Pool2dShape& s = pool.shape;
  const int64_t padded = max_pool2d_row_floats(s, kLanes);
  const int64_t band_rows = max_pool2d_band_rows(s);
  int32_t* first =
      reinterpret_cast<int32_t*>(scratch + band_rows * padded);  // of each column, the first position inside
  const float* copied_plane = nullptr;
  int64_t copied_begin = 0, copied_end = 0;  // rows of that plane
  if constexpr (kTaps)
    for (int64_t ow = 0; ow < round_up(s.ow, kLanes); ++ow) first[ow] = static_cast<int32_t>(window_w(s, ow).begin);
  const float* input_end =
      pool.input.data + (s.n - 1) * pool.input.n + (s.c - 1) * pool.input.c + (s.ih - 1) * pool.input.h + s.iw;
  float* y = pool.output.data;
  IntVec nan{};
  int64_t oh = begin % s.oh, c = begin / s.oh % s.c, n = begin / s.oh / s.c;
  for (int64_t r = begin; r < end; ++r, ++oh) {
    if (oh == s.oh) oh = 0, ++c;
    if (c == s.c) c = 0, ++n;
    const WindowRange h = window_h(s, oh);
    const float* plane = pool.input.data + n * pool.input.n + c * pool.input.c;
    const int64_t top = oh * s.stride_h - s.pad_h;
    const float* image = plane + top * pool.input.h;
    const int64_t row_step = s.dilation_h * pool.input.h;
    // A row is read where it lies if no lane that counts meets an edge and no load passes the end of the tensor.
    const float* rows = image;
    int64_t rows_step = row_step;
    if (s.pad_w > 0 || (s.ow - 1) * s.stride_w + (s.kw - 1) * s.dilation_w >= s.iw ||
        image + (h.end - 1) * row_step + padded > input_end) {
      const int64_t from = top + h.begin * s.dilation_h, to = top + (h.end - 1) * s.dilation_h + 1;
      if (plane != copied_plane || from < copied_begin || to > copied_end) {
        if (!copied_plane)
          for (int64_t i = 0; i < band_rows * padded; ++i) scratch[i] = kLowest;
        copied_plane = plane, copied_begin = from, copied_end = min(from + band_rows, s.ih);
        for (int64_t i = from; i < copied_end; ++i) {
          const float* source = plane + i * pool.input.h;
          float* copy = scratch + (i - from) * padded + s.pad_w;
          for_each_vector_of(s.iw, [=](int64_t w, auto lanes) {
            prefetch_ahead(source + w);
            lanes.store(copy + w, lanes.load(source + w));
          });
        }
      }
      rows = scratch + (top - copied_begin) * padded, rows_step = s.dilation_h * padded;
    }
    // Output rows lie one behind the other: a vector may run over a row's end where this task overwrites that later.
    const int64_t out = r * s.ow, room = (end - r) * s.ow;
    const int32_t first_row = static_cast<int32_t>(h.begin * s.kw);
    for (int64_t ow = 0; ow < s.ow; ow += kLanes) {
      Winner<kTaps, kExact> winner;
      if constexpr (kTaps) winner.tap = load(first + ow) + broadcast_int(first_row);
      for (int64_t i = h.begin; i < h.end; ++i) {
        const float* p = rows + i * rows_step + ow * s.stride_w;
        prefetch_ahead(p);
        if constexpr (kStride == 2) prefetch_ahead(p + kLanes);
#pragma GCC unroll 3
        for (int64_t j = 0; j < (kWidth ? kWidth : s.kw); ++j, p += s.dilation_w)
          winner.meet(load_strided<kStride>(p, s.stride_w), static_cast<int32_t>(i * s.kw + j));
      }
      nan |= winner.met_nan();
      const bool full = ow + kLanes <= room;
      full ? store_far(y + out + ow, winner.value) : store_first(y + out + ow, winner.value, room - ow);
      if constexpr (kTaps)
        full ? store_bytes(pool.taps + out + ow, winner.tap)
             : store_first_bytes(pool.taps + out + ow, winner.tap, room - ow);
    }
  }
  return kExact || !any(nan);
}

template <bool kTaps>
void pool_plane_rows_of_window(const MaxPool2d& pool, int64_t begin, int64_t end, float* scratch) {
  const int64_t stride = pool.shape.stride_w, width = pool.shape.kw;
  auto kernel = pool_plane_rows<kTaps, false, 0, 0>;
  if (stride == 1) kernel = width == 3 ? pool_plane_rows<kTaps, false, 1, 3> : pool_plane_rows<kTaps, false, 1, 0>;
  if (stride == 2)
    kernel = width == 2   ? pool_plane_rows<kTaps, false, 2, 2>
             : width == 3 ? pool_plane_rows<kTaps, false, 2, 3>
                          : pool_plane_rows<kTaps, false, 2, 0>;
  if (!kernel(pool, begin, end, scratch)) pool_plane_rows<kTaps, true, 0, 0>(pool, begin, end, scratch);
}

void max_pool2d_plane_rows(const MaxPool2d& pool, int64_t begin, int64_t end, float* scratch) {
  pool.taps ? pool_plane_rows_of_window<true>(pool, begin, end, scratch)
            : pool_plane_rows_of_window<false>(pool, begin, end, scratch);
}

}  // namespace
}  // namespace convkit
