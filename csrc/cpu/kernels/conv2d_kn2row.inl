// Convolution into few output channels, such as the gradient of an image: a register tile of direct convolution, pixels
// by output channels, would compute mostly columns that do not exist. Here the window is split into its taps (kn2row,
// Vasudevan et al. 2017, "Parallel Multi Channel Convolution using General Matrix Multiplication"):
//
//   products [taps x output channels, pixels] = weights [taps x output channels, input channels] * a few pixels
//
// is one matrix product with full tiles, output channels of all taps as rows; then each tap's row is added to the sums,
// shifted to where the tap belongs. Pixels are in the lanes. No zeros are multiplied at the edges of the image.
#pragma once

#include "cpu/kernels/conv2d_kn2row.h"
#include "cpu/kernels/gemm_tile.inl"
#include "cpu/kernels/pack.inl"

namespace convkit {
namespace {

// -> rows [kh, kw, oc, ic]
void pack_kn2row_weight(const Conv2dShape& s, const View4d<const float>& w, float* rows) {
  for (int64_t tap = 0; tap < s.kh * s.kw; ++tap, rows += s.oc * s.ic)
    strided_copy(w.data + tap / s.kw * w.h + tap % s.kw * w.w, w.n, w.c, rows, s.ic, s.oc, s.ic);
}

struct Kn2rowTask {
  int64_t n, row, rows;
  float* sums;  // [oc, rows, blocking.sum_width]
};

// Pixels [pixel, pixel + count) of an image, row by row: body(row, col, cols, index of the first).
template <typename Body>
inline void for_each_row_segment(int64_t pixel, int64_t count, int64_t width, Body body) {
  for (int64_t at = 0; at < count;) {
    const int64_t row = (pixel + at) / width, col = (pixel + at) % width, cols = min(width - col, count - at);
    body(row, col, cols, at);
    at += cols;
  }
}

template <int... Lane>
constexpr IntVec make_lane_numbers(std::integer_sequence<int, Lane...>) {
  return IntVec{Lane...};
}

constexpr IntVec kLaneNumbers = make_lane_numbers(std::make_integer_sequence<int, kLanes>{});

// Adds the products [taps, oc, kTileCols] of input row `row`, columns [col, col + cols), to the sums: the taps of a row
// of the window in a register first, because a load that overlaps a store soon before it would wait for it.
void add_shifted(const Conv2dKn2row& conv, const Kn2rowTask& t, int64_t row, int64_t col, int64_t cols,
                 const float* products) {
  const Conv2dShape& s = conv.shape;
  const Conv2dKn2rowBlocking& b = conv.blocking;
  const int64_t taps = s.kw, dilation = s.dilation_w, reach = (taps - 1) * dilation, tap = s.oc * kTileCols;
  for (int64_t kh = 0; kh < s.kh; ++kh, products += taps * tap) {
    const int64_t r = row + s.pad_top - kh * s.dilation_h - t.row;  // of the output, within the band
    if (r < 0 || r >= t.rows) continue;
    float* sums = t.sums + r * b.sum_width + b.left + col + s.pad_left - reach;
    const float* of_row = products;
    const int64_t plane = t.rows * b.sum_width;
    for (const float* end = products + tap; of_row < end; of_row += kTileCols, sums += plane)
      for_each_vector_of(cols + reach, [=](int64_t i, auto lanes) {
        Vec sum{};
        for (int64_t kw = 0, first = i - reach; kw < taps; ++kw, first += dilation) {  // of the columns of the products
          if (first <= -kLanes || first >= cols) continue;
          const BitsVec column = (BitsVec)(kLaneNumbers + static_cast<int32_t>(first));
          sum += column < static_cast<uint32_t>(cols) ? load(of_row + kw * tap + first) : Vec{};
        }
        lanes.store(sums + i, lanes.load(sums + i) + sum);
      });
  }
}

void store_kn2row(const Conv2dKn2row& conv, const Kn2rowTask& t) {
  const Conv2dShape& s = conv.shape;
  const View4d<float>& y = conv.output;
  for (int64_t oc = 0; oc < s.oc; ++oc) {
    const float bias = conv.bias ? conv.bias[oc] : 0.0f;
    for (int64_t r = 0; r < t.rows; ++r) {
      float* sums = t.sums + (oc * t.rows + r) * conv.blocking.sum_width + conv.blocking.left;
      float* row = y.data + t.n * y.n + oc * y.c + (t.row + r) * y.h;
      for_each_vector_of(s.ow, [&](int64_t i, auto lanes) {
        const Vec value = lanes.load(sums + i) + broadcast(bias);
        lanes.store((y.w == 1 ? row : sums) + i, activate(conv.activation, value));
      });
      if (y.w != 1)
        for (int64_t i = 0; i < s.ow; ++i) row[i * y.w] = sums[i];
    }
  }
}

void conv2d_kn2row_forward(const Conv2dKn2row& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dKn2rowBlocking& b = conv.blocking;
  Kn2rowTask t;
  t.n = task / b.row_bands;
  t.row = task % b.row_bands * b.rows;
  t.rows = min(b.rows, s.oh - t.row);
  float *weights = scratch, *pixels = weights + b.weight_floats, *products = pixels + b.pixel_floats;
  t.sums = products + b.product_floats;
  pack_kn2row_weight(s, conv.weight, weights);
  fill_zero(t.sums, s.oc * t.rows * b.sum_width);

  GemmTile tile{};
  tile.a = weights, tile.a_row = s.ic;
  tile.outer = ceil_div(s.ic, kConv2dChain), tile.inner = 1;
  tile.run = tile.a_outer = ceil_div(s.ic, tile.outer);
  tile.missing_run = tile.outer * tile.run - s.ic;
  tile.split = tile.outer > 1;
  tile.b = pixels;
  tile.c = products, tile.c_row = kTileCols;
  const View4d<const float>& x = conv.input;
  const int64_t begin = max(t.row - s.pad_top, 0);
  const int64_t end = min(t.row + t.rows - s.pad_top + (s.kh - 1) * s.dilation_h, s.ih);
  const int64_t step = s.iw <= kTileCols ? kTileCols / s.iw * s.iw : kTileCols;  // whole rows of a narrow image
  for (int64_t pixel = begin * s.iw; pixel < end * s.iw; pixel += step) {
    tile.cols = min(step, end * s.iw - pixel);
    for_each_row_segment(pixel, tile.cols, s.iw, [&](int64_t row, int64_t col, int64_t cols, int64_t at) {
      strided_copy(x.data + t.n * x.n + row * x.h + col * x.w, x.c, x.w, pixels + at, kTileCols, s.ic, cols);
    });
    gemm_rows(tile, b.product_rows);
    for_each_row_segment(pixel, tile.cols, s.iw, [&](int64_t row, int64_t col, int64_t cols, int64_t at) {
      add_shifted(conv, t, row, col, cols, products + at);
    });
  }
  store_kn2row(conv, t);
}

}  // namespace
}  // namespace convkit
