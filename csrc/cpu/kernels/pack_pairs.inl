// Packing of bfloat16 numbers in pairs, for tiles that multiply two of them a lane. An odd number's partner is zero.
#pragma once

#include "cpu/kernels/pack.inl"

namespace convkit {
namespace {

#if defined(__AVX512BF16__)
constexpr int64_t kVecNumbers = 2 * kLanes;

// Up to a vector of pairs as they lie in memory, `count` numbers; whole pairs of it are stored.
inline Vec load_pairs(const BFloat16* p, int64_t count) {
  return (Vec)_mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint64_t{1} << count) - 1), p);
}
inline void store_pairs(BFloat16* p, Vec pairs) { _mm512_storeu_si512(p, (__m512i)pairs); }
inline void store_first_pairs(BFloat16* p, Vec pairs, int64_t count) {
  _mm512_mask_storeu_epi32(p, first_lanes((count + 1) / 2), (__m512i)pairs);
}
// Pairs of the first `count` numbers of two runs; of one, if there is no other.
inline Vec zip(const BFloat16* even, const BFloat16* odd, int64_t count) {
  const __m256i low = _mm256_maskz_loadu_epi16(first_lanes(count), even);
  const __m256i high = _mm256_maskz_loadu_epi16(odd ? first_lanes(count) : 0, odd);
  return (Vec)_mm512_or_si512(_mm512_maskz_cvtepu16_epi32(0xFFFF, low),
                              _mm512_slli_epi32(_mm512_maskz_cvtepu16_epi32(0xFFFF, high), 16));
}

// destination[i * to + j] = source[i * from_row + j * from_col] for i < rows, j < cols; `to` is even, and a zero
// follows an odd number of columns.
template <>
void strided_copy(const BFloat16* source, int64_t from_row, int64_t from_col, BFloat16* destination, int64_t to,
                  int64_t rows, int64_t cols) {
  if (from_col == 1 && from_row == cols && to == cols) {
    std::memcpy(static_cast<void*>(destination), source, rows * cols * sizeof(BFloat16));
  } else if (from_col == 1) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; j += kVecNumbers) {
        const int64_t count = min(kVecNumbers, cols - j);
        store_first_pairs(destination + i * to + j, load_pairs(source + i * from_row + j, count), count);
      }
  } else if (from_row == 1) {
    for (int64_t i = 0; i < rows; i += kLanes) {
      const int64_t height = min(kLanes, rows - i);
      for (int64_t j = 0; j < cols; j += kVecNumbers) {
        const int64_t width = min(kVecNumbers, cols - j);
        const BFloat16* from = source + i + j * from_col;
        Vec block[kLanes];
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; ++r)
          block[r] = 2 * r >= width ? Vec{}
                                    : zip(from + 2 * r * from_col,
                                          2 * r + 1 < width ? from + (2 * r + 1) * from_col : nullptr, height);
        transpose(block);
        for (int r = 0; r < height; ++r) store_first_pairs(destination + (i + r) * to + j, block[r], width);
      }
    }
  } else {
    for (int64_t i = 0; i < rows; ++i, destination += to) {
      for (int64_t j = 0; j < cols; ++j) destination[j] = source[i * from_row + j * from_col];
      if (cols % 2) destination[cols] = BFloat16{};
    }
  }
}

// A window's row on an image of few channels.
struct RowPatches {
  int64_t channels, run;   // numbers of a pixel, and of a window's row
  int64_t stride_w, cols;  // output columns
};

// -> band [h.count, cols, run rounded up to pairs]: what each output column meets in each input row. After the band
// there is room for a row of pixels.
void pack_row_patches(const View4d<const BFloat16>& x, const BFloat16* image, Extent h, Extent w, const RowPatches& p,
                      BFloat16* band) {
  const int64_t to = round_up(p.run, 2);
  const Range rows = inside(h.start, h.count, h.size), cols = inside(w.start, w.count, w.size);
  BFloat16* const row = band + h.count * p.cols * to;
  fill_zero(row, w.count * p.channels + kVecNumbers);
  for (int64_t i = 0; i < h.count; ++i, band += p.cols * to) {
    if (i < rows.begin || i >= rows.end) {
      fill_zero(band, p.cols * to);
      continue;
    }
    const BFloat16* pixels = image + (h.start + i) * x.h + (w.start + cols.begin) * x.w;
    BFloat16* const first = row + cols.begin * p.channels;
    if (x.c == 1 && x.w == p.channels)
      std::memcpy(static_cast<void*>(first), pixels, (cols.end - cols.begin) * p.channels * sizeof(BFloat16));
    else
      for (int64_t c = 0; c < p.channels; ++c)
        for (int64_t j = 0; j < cols.end - cols.begin; ++j) first[j * p.channels + c] = pixels[j * x.w + c * x.c];
    for (int64_t j = 0; j < p.run; j += kVecNumbers) {
      const int64_t count = min(kVecNumbers, p.run - j), step = p.stride_w * p.channels;
      for (int64_t col = 0; col < p.cols; ++col)
        store_first_pairs(band + col * to + j, load_pairs(row + col * step + j, count), count);
    }
  }
}

// The weights of a panel.
struct WeightPanel {
  int64_t kh, kw, ics, cols;
};

// -> panel [kh, pairs of (kw, channels), kTileCols], to meet row patches.
void pack_row_weight(const View4d<const BFloat16>& w, const BFloat16* source, const WeightPanel& p, BFloat16* panel) {
  const int64_t run = p.kw * p.ics, row = round_up(run, 2) * kTileCols;
  fill_zero(panel, p.kh * row);
  for (int64_t kh = 0; kh < p.kh; ++kh)
    for (int64_t j = 0; j < run; ++j)
      for (int64_t col = 0; col < p.cols; ++col)
        panel[kh * row + (j / 2 * kTileCols + col) * 2 + j % 2] =
            source[kh * w.h + j / p.ics * w.w + j % p.ics * w.c + col * w.n];
}

// Pairs of channels of one tap, which lie side by side for each output channel.
void pack_pairs_of_row(const BFloat16* source, int64_t row, int64_t cols, int64_t ics, BFloat16* panel) {
  for (int64_t v = 0; v < cols; v += kLanes) {
    for (int64_t i = 0; i < ics; i += kVecNumbers) {
      const int64_t count = min(kVecNumbers, ics - i);
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) block[r] = v + r < cols ? load_pairs(source + (v + r) * row + i, count) : Vec{};
      transpose(block);
      for (int64_t r = 0; 2 * r < count; ++r) store_pairs(panel + (i / 2 + r) * kTileCols * 2 + v * 2, block[r]);
    }
  }
}

// Two channels, or one (`odd` is null): all taps, `step` (1 or -1) apart in memory, of each output channel.
struct ChannelPair {
  const BFloat16 *even, *odd;
  int64_t output_channel, step, taps, cols;
};

// -> panel [taps, `to` apart][cols]
void pack_pairs_of_taps(const ChannelPair& p, int64_t to, BFloat16* panel) {
  const int64_t first = p.step < 0 ? 1 - p.taps : 0;  // in memory
  for (int64_t v = 0; v < p.cols; v += kLanes) {
    for (int64_t tap = 0; tap < p.taps; tap += kLanes) {
      const int64_t count = min(kLanes, p.taps - tap);
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) {
        const int64_t at = first + (v + r) * p.output_channel + tap;
        block[r] = v + r < p.cols ? zip(p.even + at, p.odd ? p.odd + at : nullptr, count) : Vec{};
      }
      transpose(block);
      for (int64_t r = 0; r < count; ++r)
        store_pairs(panel + (p.step < 0 ? p.taps - 1 - tap - r : tap + r) * to + v * 2, block[r]);
    }
  }
}

// -> panel [kh, kw, pairs of channels, kTileCols] of the weights of `cols` output channels at `source`, in the strides
// of `w`; columns beyond them are zero.
void pack_weight_panel(const View4d<const BFloat16>& w, const BFloat16* source, int64_t kh, int64_t kw, int64_t ics,
                       int64_t cols, BFloat16* panel) {
  const int64_t taps = kh * kw, tap_numbers = round_up(ics, 2) * kTileCols;
  if (cols < kTileCols) fill_zero(panel, taps * tap_numbers);
  const bool taps_inside = taps > 1 && (w.w == 1 || w.w == -1) && w.h == kw * w.w;
  for (int64_t tap = 0; w.c == 1 && tap < taps; ++tap)
    pack_pairs_of_row(source + tap / kw * w.h + tap % kw * w.w, w.n, cols, ics, panel + tap * tap_numbers);
  if (w.c == 1) return;
  for (int64_t i = 0; i < ics; i += 2) {
    const BFloat16 *even = source + i * w.c, *odd = i + 1 < ics ? even + w.c : nullptr;
    BFloat16* const to = panel + i * kTileCols;
    if (taps_inside) {
      pack_pairs_of_taps({even, odd, w.n, w.w, taps, cols}, tap_numbers, to);
      continue;
    }
    for (int64_t tap = 0; tap < taps; ++tap) {
      const int64_t at = tap / kw * w.h + tap % kw * w.w;
      BFloat16* const row = to + tap * tap_numbers;
      for (int64_t v = 0; w.n == 1 && v < cols; v += kLanes)
        store_pairs(row + 2 * v, zip(even + at + v, odd ? odd + at + v : nullptr, min(kLanes, cols - v)));
      for (int64_t col = 0; w.n != 1 && col < cols; ++col) {
        row[2 * col] = even[at + col * w.n];
        row[2 * col + 1] = odd ? odd[at + col * w.n] : BFloat16{};
      }
    }
  }
}
#endif

}  // namespace
}  // namespace convkit
