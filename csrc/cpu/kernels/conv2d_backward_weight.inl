// Gradient of a direct convolution's weight: grad_weight[oc, ic, tap] is a sum over pixels, run as one tile GEMM per
// tap with input channels as the rows, output channels as the columns and a band of pixels as the reduction.
//
// A task owns a chunk of input channels x a chunk of output channels, all taps, and every `splits`-th part of the bands
// of all images, so no two tasks add to the same number. It packs the input band as [ic, band_h, stride phase, band_w]:
// the pixels that a tap meets are then contiguous for every stride, and the forward tile kernel serves unchanged. Few
// input channels, as in a first layer, would leave most rows of a tile empty: there the rows are the weights of all
// taps, and a table says where the pixels of each begin.
#pragma once

#include "cpu/kernels/conv2d_direct.h"
#include "cpu/kernels/gemm_tile.inl"
#include "cpu/kernels/pack.inl"

namespace convkit {
namespace {

struct BackwardWeightTask {
  int64_t group, split;
  int64_t ic, ics, oc, ocs;  // channels within the group
};

// Columns of a row of sums: the output channels of a task in whole vectors.
inline int64_t weight_columns(const Conv2dBackwardWeightBlocking& b) { return round_up(b.oc_chunk, kLanes); }

// One band of output pixels of one image.
struct PixelBand {
  int64_t n, row, rows, col, cols;
};

// -> x [ics, band_h, stride_w, band_w]
void pack_input_phases(const Conv2dBackwardWeight& conv, const BackwardWeightTask& t, const PixelBand& band, float* x) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBackwardWeightBlocking& b = conv.blocking;
  const View4d<const float>& v = conv.input;
  const int64_t rows = (band.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  const PhasedBand phased{{band.row * s.stride_h - s.pad_top, rows, s.ih},
                          band.col * s.stride_w - s.pad_left,
                          s.iw,
                          s.stride_w,
                          b.band_w,
                          b.band_h * s.stride_w * b.band_w};
  fill_zero(x, t.ics * phased.channel);
  pack_phases(v, v.data + band.n * v.n + (t.group * s.group_ic() + t.ic) * v.c, phased, t.ics, x);
}

// -> dy [oc tile, rows, cols, kTileCols]; columns beyond the last output channel are zero
// in its vector.
void pack_grad_output(const Conv2dBackwardWeight& conv, const BackwardWeightTask& t, const PixelBand& band, float* dy) {
  const View4d<const float>& v = conv.grad_output;
  const int64_t panel = band.rows * band.cols * kTileCols;
  for (int64_t oc = 0; oc < t.ocs; oc += kTileCols, dy += panel) {
    const int64_t cols = min(kTileCols, t.ocs - oc);
    const float* source =
        v.data + band.n * v.n + (t.group * conv.shape.group_oc() + t.oc + oc) * v.c + band.row * v.h + band.col * v.w;
    if (cols % kLanes) fill_zero(dy, panel);
    for (int64_t r = 0; r < band.rows; ++r)
      strided_copy(source + r * v.h, v.w, v.c, dy + r * band.cols * kTileCols, kTileCols, band.cols, cols);
  }
}

// Where the pixels that each weight [kh, kw, ic] meets begin in x [ics, band_h, stride_w, band_w].
void list_weights(const Conv2dBackwardWeight& conv, int64_t ics, int64_t* first_pixels) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBackwardWeightBlocking& b = conv.blocking;
  const int64_t input_row = s.stride_w * b.band_w;
  for (int64_t kh = 0; kh < s.kh; ++kh) {
    for (int64_t kw = 0; kw < s.kw; ++kw) {
      const int64_t offset = kw * s.dilation_w;
      const int64_t tap = kh * s.dilation_h * input_row + offset % s.stride_w * b.band_w + offset / s.stride_w;
      for (int64_t ic = 0; ic < ics; ++ic) *first_pixels++ = tap + ic * b.band_h * input_row;
    }
  }
}

// gemm_tile whose rows of A begin anywhere: at tile.a + first[row].
template <int Rows, int Vecs>
void weights_tile(const GemmTile& tile, const int64_t* first) {
  Vec sum[Rows][Vecs];
  for_each_vector(sum, [](Vec& value, int, int) { value = Vec{}; });
  const float *a[Rows], *b = tile.b;
  const int64_t b_row = tile.b_row;
#pragma GCC unroll 16
  for (int row = 0; row < Rows; ++row) a[row] = tile.a + first[row];
  for (int64_t begin = 0, left = tile.outer; left > 0; --left, begin += tile.a_outer) {
    for (int64_t k = begin, end = begin + tile.run; k < end; ++k, b += b_row) {
      prefetch_ahead(b);
      Vec column[Vecs];
#pragma GCC unroll 4
      for (int v = 0; v < Vecs; ++v) column[v] = load(b + v * kLanes);
#pragma GCC unroll 16
      for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
        for (int v = 0; v < Vecs; ++v) sum[row][v] += a[row][k] * column[v];
      }
    }
  }
  finish_tile(sum, tile);
}

constexpr int kWeightRows = 9;  // as many pointers as there are registers for
typedef void WeightsTileFunction(const GemmTile&, const int64_t*);

struct WeightsTiles {
  WeightsTileFunction *narrow[kWeightRows], *wide[kTileRows];
};

template <int... Narrow, int... Wide>
constexpr WeightsTiles make_weights_tiles(std::integer_sequence<int, Narrow...>, std::integer_sequence<int, Wide...>) {
  return {{weights_tile<Narrow + 1, 1>...}, {weights_tile<Wide + 1, 2>...}};
}

constexpr WeightsTiles kWeightsTiles =
    make_weights_tiles(std::make_integer_sequence<int, kWeightRows>{}, std::make_integer_sequence<int, kTileRows>{});

void weights_rows(GemmTile tile, const int64_t* first, int64_t rows) {
  const bool narrow = tile.cols <= kLanes;
  const auto* tiles = narrow ? kWeightsTiles.narrow : kWeightsTiles.wide;
  for (int64_t left = ceil_div(rows, narrow ? kWeightRows : kTileRows); left > 0; --left) {
    const int64_t height = ceil_div(rows, left);
    tiles[height - 1](tile, first);
    first += height;
    tile.c += height * tile.c_row;
    rows -= height;
  }
}

// sums [kh, kw, ic_chunk, columns] += the band's products; `dy` is scratch.
void accumulate_band(const Conv2dBackwardWeight& conv, const BackwardWeightTask& t, const PixelBand& band,
                     const float* x, float* dy, const int64_t* first_pixels, float* sums, bool accumulate) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBackwardWeightBlocking& b = conv.blocking;
  const int64_t columns = weight_columns(b), input_row = s.stride_w * b.band_w, pixels = band.rows * band.cols;
  GemmTile tile{};
  tile.inner = 1;
  tile.c_row = columns;
  tile.accumulate = accumulate;
  // Whole vectors of a channels_last gradient are read where they lie.
  const View4d<const float>& g = conv.grad_output;
  const bool in_place = g.c == 1 && t.ocs % kLanes == 0 && (band.rows == 1 || g.h == band.cols * g.w);
  const float* grad_output = g.data + band.n * g.n + band.row * g.h + band.col * g.w + t.group * s.group_oc() + t.oc;
  if (in_place)
    tile.b_row = g.w;
  else
    pack_grad_output(conv, t, band, dy);
  for (int64_t oc = 0; oc < t.ocs; oc += kTileCols) {
    tile.b = in_place ? grad_output + oc : dy + oc * pixels;
    tile.cols = min(kTileCols, round_up(t.ocs, kLanes) - oc);
    tile.a_row = b.band_h * input_row;
    tile.a_outer = s.stride_h * input_row;
    tile.outer = band.rows, tile.run = band.cols;
    if (b.all_taps) {
      tile.a = x;
      tile.c = sums + oc;
      weights_rows(tile, first_pixels, s.kh * s.kw * t.ics);
      continue;
    }
    for (int64_t kh = 0; kh < s.kh; ++kh) {
      for (int64_t kw = 0; kw < s.kw; ++kw) {
        const int64_t offset = kw * s.dilation_w;
        tile.a = x + kh * s.dilation_h * input_row + offset % s.stride_w * b.band_w + offset / s.stride_w;
        tile.c = sums + (kh * s.kw + kw) * b.ic_chunk * columns + oc;
        gemm_rows(tile, t.ics);
      }
    }
  }
}

// Bands whose products are added up one after the other before they go to the total: chains of float32 additions stay
// short however many images there are.
constexpr int64_t kBandsPerSum = 256;

inline void add_to(float* total, const float* sums, int64_t count) {
  for (int64_t i = 0; i < count; ++i) total[i] += sums[i];
}

// sums [kh, kw, ic_chunk, columns] -> the weight's strides.
template <typename Conv>
void store_weight(const Conv& conv, const BackwardWeightTask& t, int64_t columns, const float* sums) {
  const Conv2dShape& s = conv.shape;
  const View4d<float>& g = conv.grad_weight;
  const int64_t tap_floats = conv.blocking.ic_chunk * columns;
  float* out = g.data + t.split * conv.split_stride + (t.group * s.group_oc() + t.oc) * g.n + t.ic * g.c;
  const int64_t taps = s.kh * s.kw;
  if (g.c == 1) {
    for (int64_t tap = 0; tap < taps; ++tap)
      transpose_copy(sums + tap * tap_floats, columns, out + tap / s.kw * g.h + tap % s.kw * g.w, g.n, t.ics, t.ocs);
    return;
  }
  // A few output channels at a time: each is a run of memory of its own.
  const bool contiguous = g.w == 1 && g.h == s.kw && g.c == taps;
  for (int64_t first = 0; first < t.ocs; first += kLanes) {
    const int64_t ocs = min(kLanes, t.ocs - first), steps = t.ics * taps;
    float* to = out + first * g.n;
    int64_t step = 0, tap = 0;
    const float* from = sums + first;  // of this input channel
    if (contiguous && ocs == kLanes) {
      for (; step + kLanes <= steps; step += kLanes) {
        Vec block[kLanes];
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; ++r) {
          block[r] = load(from + tap * tap_floats);
          if (++tap == taps) tap = 0, from += columns;
        }
        transpose(block);
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; ++r) store(to + r * g.n + step, block[r]);
      }
    }
    for (; step < steps; ++step) {
      const float* numbers = from + tap * tap_floats;
      float* place = to + step / taps * g.c + tap / s.kw * g.h + tap % s.kw * g.w;
      for (int64_t oc = 0; oc < ocs; ++oc) place[oc * g.n] = numbers[oc];
      if (++tap == taps) tap = 0, from += columns;
    }
  }
}

void conv2d_backward_weight(const Conv2dBackwardWeight& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBackwardWeightBlocking& b = conv.blocking;
  BackwardWeightTask t;
  t.oc = task % b.oc_chunks * b.oc_chunk;
  task /= b.oc_chunks;
  t.ic = task % b.ic_chunks * b.ic_chunk;
  task /= b.ic_chunks;
  t.group = task % s.groups;
  t.split = task / s.groups;
  t.ics = min(b.ic_chunk, s.group_ic() - t.ic);
  t.ocs = min(b.oc_chunk, s.group_oc() - t.oc);
  float* x = scratch;
  float* dy = x + b.input_floats;
  int64_t* first_pixels = reinterpret_cast<int64_t*>(dy + b.grad_floats);
  float* sums = dy + b.grad_floats + b.table_floats;
  float* total = sums + b.sum_floats;

  const int64_t bands = s.n * b.row_bands * b.col_bands;
  const int64_t begin = bands * t.split / b.splits, end = bands * (t.split + 1) / b.splits;
  const bool one_sum = end > begin && end - begin <= kBandsPerSum;
  if (!one_sum) fill_zero(total, b.sum_floats);
  if (b.all_taps) list_weights(conv, t.ics, first_pixels);
  for (int64_t i = begin; i < end; ++i) {
    PixelBand band;
    band.col = i % b.col_bands * b.cols;
    band.row = i / b.col_bands % b.row_bands * b.rows;
    band.n = i / b.col_bands / b.row_bands;
    band.rows = min(b.rows, s.oh - band.row);
    band.cols = min(b.cols, s.ow - band.col);
    pack_input_phases(conv, t, band, x);
    const int64_t position = (i - begin) % kBandsPerSum;
    accumulate_band(conv, t, band, x, dy, first_pixels, sums, position > 0);
    if (!one_sum && (position == kBandsPerSum - 1 || i == end - 1)) add_to(total, sums, b.sum_floats);
  }

  store_weight(conv, t, weight_columns(b), one_sum ? sums : total);
}

}  // namespace
}  // namespace convkit
