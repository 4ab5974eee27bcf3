// Copies parts of tensors of any strides into the small dense blocks that the tile kernel reads.
#pragma once

#include "common/conv2d_shape.h"
#include "common/int_math.h"
#include "cpu/kernels/gemm_tile.inl"
#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

// One step of the transposition: swaps the off-diagonal Step x Step blocks of each 2 Step x 2 Step block.
template <int Step, int Rows, int... Lane>
inline void transpose_step(Vec* rows, std::integer_sequence<int, Lane...>) {
  for (int i = 0; i < Rows; ++i) {
    if (i & Step) continue;
    const Vec a = rows[i], b = rows[i + Step];
    rows[i] = pick(a, b, std::integer_sequence<int, (Lane & Step ? kLanes + Lane - Step : Lane)...>{});
    rows[i + Step] = pick(a, b, std::integer_sequence<int, (Lane & Step ? kLanes + Lane : Lane + Step)...>{});
  }
}

// Blocks of Rows x Rows floats, as many side by side as a vector holds, in registers.
template <int Rows = kLanes>
inline void transpose(Vec* rows) {
  constexpr auto kAll = std::make_integer_sequence<int, kLanes>{};
  transpose_step<1, Rows>(rows, kAll);
  if constexpr (Rows >= 4) transpose_step<2, Rows>(rows, kAll);
  if constexpr (Rows >= 8) transpose_step<4, Rows>(rows, kAll);
  if constexpr (Rows >= 16) transpose_step<8, Rows>(rows, kAll);
}

template <int... Lane>
inline Vec join_halves(Vec low, Vec high, std::integer_sequence<int, Lane...>) {
  return pick(low, high, std::integer_sequence<int, (Lane < kLanes / 2 ? Lane : Lane + kLanes / 2)...>{});
}

// block[j][i] = source[i * from + j]
template <typename From>
inline void load_transposed(const From* source, int64_t from, Vec* block) {
#pragma GCC unroll 16
  for (int r = 0; r < kLanes; ++r) block[r] = load(source + r * from);
  transpose(block);
}

// The same as transpose_copy for up to half a vector of columns: in registers, two rows of the source to a vector.
template <typename From, typename To>
void transpose_half(const From* source, int64_t from, To* destination, int64_t to, int64_t rows, int64_t cols) {
  constexpr int kHalf = kLanes / 2;
  constexpr auto kAll = std::make_integer_sequence<int, kLanes>{};
  for (int64_t i = 0; i < rows; i += kLanes) {
    const int64_t height = min(kLanes, rows - i);
    Vec block[kHalf];
#pragma GCC unroll 8
    for (int r = 0; r < kHalf; ++r) {
      const Vec low = r < height ? load_first(source + (i + r) * from, cols) : Vec{};
      block[r] = r + kHalf < height ? join_halves(low, load_first(source + (i + r + kHalf) * from, cols), kAll) : low;
    }
    transpose<kHalf>(block);
#pragma GCC unroll 8
    for (int r = 0; r < kHalf; ++r)
      if (r < cols) store_first(destination + r * to + i, block[r], height);
  }
}

// The same as transpose_copy for less than a vector of rows or columns.
template <typename From, typename To>
void transpose_narrow(const From* source, int64_t from, To* destination, int64_t to, int64_t rows, int64_t cols) {
  if (cols > 1 && cols <= kLanes / 2 && rows >= kLanes / 2)
    return transpose_half(source, from, destination, to, rows, cols);
  if (min(rows, cols) < kLanes / 4) {  // in registers most would be empty
    for (int64_t j = 0; j < cols; ++j)
      for (int64_t i = 0; i < rows; ++i) destination[j * to + i] = To(source[i * from + j]);
    return;
  }
  for (int64_t i = 0; i < rows; i += kLanes) {
    const int64_t height = min(kLanes, rows - i);
    for (int64_t j = 0; j < cols; j += kLanes) {
      const int64_t width = min(kLanes, cols - j);
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) block[r] = r < height ? load_first(source + (i + r) * from + j, width) : Vec{};
      transpose(block);
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r)
        if (r < width) store_first(destination + (j + r) * to + i, block[r], height);
    }
  }
}

// destination[j * to + i] = source[i * from + j] for i < rows, j < cols.
template <typename From, typename To>
void transpose_copy(const From* source, int64_t from, To* destination, int64_t to, int64_t rows, int64_t cols) {
  if (rows < kLanes || cols < kLanes) return transpose_narrow(source, from, destination, to, rows, cols);
  // The last block of a row or column of blocks overlaps the one before it rather than leave a rest.
  for (int64_t next_i = 0; next_i < rows; next_i += kLanes) {
    const int64_t i = min(next_i, rows - kLanes);
    for (int64_t next_j = 0; next_j < cols; next_j += kLanes) {
      const int64_t j = min(next_j, cols - kLanes);
      Vec block[kLanes];
      load_transposed(source + i * from + j, from, block);
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) store(destination + (j + r) * to + i, block[r]);
    }
  }
}

// destination[i * to + j] = source[i * from_row + j * from_col] for i < rows, j < cols.
template <typename From, typename To>
void strided_copy(const From* source, int64_t from_row, int64_t from_col, To* destination, int64_t to, int64_t rows,
                  int64_t cols) {
  if (std::is_same_v<From, To> && from_col == 1 && from_row == cols && to == cols) {
    std::memcpy(static_cast<void*>(destination), source, rows * cols * sizeof(To));
  } else if (from_col == 1) {
    for (int64_t i = 0; i < rows; ++i) {
      const From* s = source + i * from_row;
      To* d = destination + i * to;
      for_each_vector_of(cols, [=](int64_t j, auto lanes) { lanes.store(d + j, lanes.load(s + j)); });
    }
  } else if (from_row == 1) {
    transpose_copy(source, from_col, destination, to, cols, rows);
  } else {
    for (int64_t i = 0; i < rows; ++i) {
      int64_t j = 0;
      if constexpr (std::is_same_v<From, float>)
        for (; from_col == 2 && j + kLanes < cols; j += kLanes)  // the second load reads one float too many
          store(destination + i * to + j, load_even(source + i * from_row + 2 * j));
      for (; j < cols; ++j) destination[i * to + j] = To(source[i * from_row + j * from_col]);
    }
  }
}

template <typename T>
inline void fill_zero(T* p, int64_t count) {
  std::memset(static_cast<void*>(p), 0, count * sizeof(T));
}

// The part [begin, end) of [0, count) for which 0 <= start + i < size.
struct Range {
  int64_t begin, end;
};
inline Range inside(int64_t start, int64_t count, int64_t size) {
  const int64_t begin = clamp(-start, 0, count);
  return {begin, clamp(size - start, begin, count)};
}

// Where `count` rows or columns of a band lie in an image of `size`, from `start` on, which may be negative.
struct Extent {
  int64_t start, count, size;
};

// -> band [h.count, w.count, `to`] of the first `channels` at `image`, in the strides of `x`; zeros
// beyond the image.
template <typename From, typename To>
void pack_band(const View4d<const From>& x, const From* image, Extent h, Extent w, int64_t channels, int64_t to,
               To* band) {
  const Range rows = inside(h.start, h.count, h.size), cols = inside(w.start, w.count, w.size);
  for (int64_t i = 0; i < h.count; ++i, band += w.count * to) {
    if (i < rows.begin || i >= rows.end) {
      fill_zero(band, w.count * to);
      continue;
    }
    fill_zero(band, cols.begin * to);
    strided_copy(image + (h.start + i) * x.h + (w.start + cols.begin) * x.w, x.w, x.c, band + cols.begin * to, to,
                 cols.end - cols.begin, channels);
    fill_zero(band + cols.end * to, (w.count - cols.end) * to);
  }
}

// A band of an image with its columns sorted by stride phase: column j of the band, which is column w_start + j of the
// image, is at phase j % stride_w, position j / stride_w. What a tap meets is then contiguous for every stride.
struct PhasedBand {
  Extent h;
  int64_t w_start, w_size;
  int64_t stride_w, band_w;  // band_w positions of each phase
  int64_t channel;           // stride of a channel of the band
};

// -> band [channels, h.count, stride_w, band_w] of the first `channels` at `image`, what lies beyond the image is
// not written.
void pack_phases(const View4d<const float>& x, const float* image, const PhasedBand& b, int64_t channels, float* band) {
  const Range rows = inside(b.h.start, b.h.count, b.h.size);
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    for (int64_t phase = 0; phase < b.stride_w; ++phase) {
      // Positions p with 0 <= w_start + phase + p * stride_w < w_size.
      const int64_t first = b.w_start + phase, begin = first < 0 ? ceil_div(-first, b.stride_w) : 0;
      const int64_t end = clamp(ceil_div(b.w_size - first, b.stride_w), begin, b.band_w);
      if (begin >= end) continue;
      strided_copy(image + (b.h.start + i) * x.h + (first + begin * b.stride_w) * x.w, x.c, b.stride_w * x.w,
                   band + (i * b.stride_w + phase) * b.band_w + begin, b.channel, channels, end - begin);
    }
  }
}

// Pixels [rows, cols, channels] of strides `row` and `pixel` -> the block of an output, in the strides of `y`, that
// begins at `origin`.
template <typename To>
void store_pixels(const float* pixels, int64_t row, int64_t pixel, const View4d<To>& y, To* origin, int64_t rows,
                  int64_t cols, int64_t channels) {
  for (int64_t r = 0; r < rows; ++r, pixels += row, origin += y.h) {
    if (y.w == 1) {
      // A few channels at a time: planes often lie a multiple of 4 KiB apart, in the same few lines of the cache.
      for (int64_t c = 0; c < channels; c += kLanes)
        transpose_copy(pixels + c, pixel, origin + c * y.c, y.c, cols, min(kLanes, channels - c));
    } else if (y.c == 1) {
      strided_copy(pixels, pixel, 1, origin, y.w, cols, channels);
    } else {
      for (int64_t i = 0; i < cols; ++i)
        for (int64_t c = 0; c < channels; ++c) origin[i * y.w + c * y.c] = To(pixels[i * pixel + c]);
    }
  }
}

// One panel [taps, ics, kTileCols] of a weight whose rows are contiguous runs of [ic, taps]: runs are transposed a
// vector squared at a time, and each vector goes where its tap belongs.
template <typename From>
void pack_contiguous_weight(const From* source, int64_t row, int64_t cols, int64_t taps, int64_t ics, float* panel) {
  const int64_t steps = taps * ics;
  for (int64_t v = 0; v < cols; v += kLanes) {
    int64_t i = 0, tap = 0;
    for (int64_t step = 0; step + kLanes <= steps; step += kLanes) {
      Vec block[kLanes];
      if (v + kLanes <= cols) {
        load_transposed(source + v * row + step, row, block);
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; ++r) block[r] = v + r < cols ? load(source + (v + r) * row + step) : Vec{};
        transpose(block);
      }
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) {
        store(panel + (tap * ics + i) * kTileCols + v, block[r]);
        if (++tap == taps) tap = 0, ++i;
      }
    }
  }
  for (int64_t col = 0; col < cols; ++col)
    for (int64_t step = steps / kLanes * kLanes; step < steps; ++step)
      panel[(step % taps * ics + step / taps) * kTileCols + col] = source[col * row + step];
}

// The same of a weight whose output channels lie side by side with their taps, in reverse, as the contiguous weight of
// a gradient of the input: for each input channel a vector squared of [output channels, taps] is transposed.
template <typename From>
void pack_rotated_weight(const From* source, int64_t channel, int64_t cols, int64_t taps, int64_t ics, float* panel) {
  const From* first_tap = source - (taps - 1);  // in memory
  for (int64_t v = 0; v < cols; v += kLanes) {
    for (int64_t next = 0; next < taps; next += kLanes) {
      const int64_t tap = max(min(next, taps - kLanes), 0), count = min(kLanes, taps);
      for (int64_t i = 0; i < ics; ++i) {
        Vec block[kLanes];
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; ++r)
          block[r] = v + r < cols ? load_first(first_tap + i * channel + (v + r) * taps + tap, count) : Vec{};
        transpose(block);
        for (int64_t r = 0; r < count; ++r) store(panel + ((taps - 1 - tap - r) * ics + i) * kTileCols + v, block[r]);
      }
    }
  }
}

// -> panel [kh, kw, ics, kTileCols] of the weights of `cols` output channels at `source`, in the strides of `w`;
// columns beyond them are zero.
template <typename From>
void pack_weight_panel(const View4d<const From>& w, const From* source, int64_t kh, int64_t kw, int64_t ics,
                       int64_t cols, float* panel) {
  const int64_t taps = kh * kw;
  if (cols < kTileCols) fill_zero(panel, taps * ics * kTileCols);
  if (w.w == 1 && w.h == kw && w.c == taps && taps > 1)
    return pack_contiguous_weight(source, w.n, cols, taps, ics, panel);
  if (w.w == -1 && w.h == -kw && w.n == taps && taps > 1)
    return pack_rotated_weight(source, w.c, cols, taps, ics, panel);
  if (w.c == 1 && w.w == ics && w.h == kw * ics)  // channels_last, and all of its channels: in the order of the panel
    return pack_contiguous_weight(source, w.n, cols, 1, taps * ics, panel);
  for (int64_t tap = 0; tap < taps; ++tap)
    strided_copy(source + tap / kw * w.h + tap % kw * w.w, w.c, w.n, panel + tap * ics * kTileCols, kTileCols, ics,
                 cols);
}

}  // namespace
}  // namespace convkit
