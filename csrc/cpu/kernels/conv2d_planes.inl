// Direct convolution of few input channels into a contiguous output, such as the first layer of a network on NCHW
// images.
//
// The sums are too short to pay for a transposition, so the register tile is turned: output channels are its rows,
// pixels its columns, and it writes straight into the output's planes. A task packs the input band as planes [ic,
// band_h, stride phase, band_w], in which the pixels that a weight meets lie side by side for every stride. A table
// says where each product finds its weight, which is read where it lies, and its pixels. Products are summed in the
// order of the other path: the same bits.
#pragma once

#include "cpu/kernels/conv2d_pool.inl"
#include "cpu/kernels/conv2d_task.h"
#include "cpu/kernels/gemm_tile.inl"
#include "cpu/kernels/pack.inl"

namespace convkit {
namespace {

// What a product multiplies, from the first weight of an output channel and the first pixel of a tile on.
struct PlanesStep {
  int64_t weight, pixel;
};

struct PlanesTile {
  const float* weight;  // of the first row
  int64_t weight_row;
  const float* pixels;  // of the first column
  const PlanesStep* steps;
  int64_t num_steps;
  const float* bias;  // of the first row, or null
  GemmTile out;       // c, c_row, cols and activation
};

template <int Rows, int Vecs>
void planes_tile(const PlanesTile& tile) {
  Vec sum[Rows][Vecs] = {};
  const int64_t weight_row = tile.weight_row;
  for (const PlanesStep *step = tile.steps, *end = step + tile.num_steps; step < end; ++step) {
    const float *weight = tile.weight + step->weight, *pixels = tile.pixels + step->pixel;
    Vec column[Vecs];
#pragma GCC unroll 4
    for (int v = 0; v < Vecs; ++v) column[v] = load(pixels + v * kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
      for (int v = 0; v < Vecs; ++v) sum[row][v] += weight[row * weight_row] * column[v];
    }
  }
  if (tile.bias) for_each_vector(sum, [&](Vec& value, int row, int) { value += broadcast(tile.bias[row]); });
  finish_tile(sum, tile.out);
}

typedef void PlanesTileFunction(const PlanesTile&);

struct PlanesTiles {
  PlanesTileFunction* of[kTileVecs][kTileRows];  // by vectors - 1, rows - 1
};

template <int... Row>
constexpr PlanesTiles make_planes_tiles(std::integer_sequence<int, Row...>) {
  return {{{planes_tile<Row + 1, 1>...}, {planes_tile<Row + 1, 2>...}}};
}

constexpr PlanesTiles kPlanesTiles = make_planes_tiles(std::make_integer_sequence<int, kTileRows>{});

// All output channels of a tile's pixels, in tiles of equal height, as near as can be.
void planes_rows(PlanesTile tile, int64_t rows) {
  const auto& tiles = kPlanesTiles.of[(tile.out.cols - 1) / kLanes];
  for (int64_t left = ceil_div(rows, kTileRows); left > 0; --left) {
    const int64_t height = ceil_div(rows, left);
    tiles[height - 1](tile);
    tile.weight += height * tile.weight_row;
    tile.out.c += height * tile.out.c_row;
    if (tile.bias) tile.bias += height;
    rows -= height;
  }
}

// -> planes [ic, band_h, stride_w, band_w], zeros where the window hangs over the edge.
void pack_planes(const Conv2dDirect<float>& conv, const ConvTask& t, float* planes) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBlocking& b = conv.blocking;
  const PhasedBand band{{t.row * s.stride_h - s.pad_top, b.band_h, s.ih},
                        t.col * s.stride_w - s.pad_left,
                        s.iw,
                        s.stride_w,
                        b.band_w,
                        b.band_h * s.stride_w * b.band_w};
  fill_zero(planes, s.group_ic() * band.channel);
  const float* image = conv.input.data + t.n * conv.input.n + t.group * s.group_ic() * conv.input.c;
  pack_phases(conv.input, image, band, s.group_ic(), planes);
}

// In the order [kh, kw, ic]; returns how many there are.
int64_t list_steps(const Conv2dDirect<float>& conv, PlanesStep* steps) {
  const Conv2dShape& s = conv.shape;
  const View4d<const float>& w = conv.weight;
  const int64_t row = s.stride_w * conv.blocking.band_w;
  int64_t count = 0;
  for (int64_t kh = 0; kh < s.kh; ++kh) {
    for (int64_t kw = 0; kw < s.kw; ++kw) {
      const int64_t column = kw * s.dilation_w;
      const int64_t pixel = kh * s.dilation_h * row + column % s.stride_w * conv.blocking.band_w + column / s.stride_w;
      for (int64_t ic = 0; ic < s.group_ic(); ++ic)
        steps[count++] = {kh * w.h + kw * w.w + ic * w.c, ic * conv.blocking.band_h * row + pixel};
    }
  }
  return count;
}

void conv2d_planes_forward(const Conv2dDirect<float>& conv, const ConvTask& t, float* planes) {
  const Conv2dShape& s = conv.shape;
  const int64_t oc = t.group * s.group_oc() + t.oc;
  float* const sums = planes + conv.blocking.input_floats;
  View4d<float> y{sums, 0, t.rows * t.cols, t.cols, 1};  // of this task, to be pooled
  if (!conv.pool) {
    y = conv.output;
    y.data += t.n * y.n + oc * y.c + t.row * y.h + t.col;
  }
  pack_planes(conv, t, planes);
  PlanesStep steps[kConv2dChain];
  PlanesTile tile{};
  tile.weight_row = conv.weight.n;
  tile.weight = conv.weight.data + t.group * conv.weight_group_stride + t.oc * tile.weight_row;
  tile.steps = steps;
  tile.num_steps = list_steps(conv, steps);
  tile.bias = conv.bias ? conv.bias + oc : nullptr;
  tile.out.c_row = y.c;
  tile.out.activation = conv.activation;
  for (int64_t r = 0; r < t.rows; ++r) {
    for (int64_t col = 0; col < t.cols; col += kTileCols) {
      tile.pixels = planes + r * s.stride_h * s.stride_w * conv.blocking.band_w + col;
      tile.out.cols = min(kTileCols, t.cols - col);
      tile.out.c = y.data + r * y.h + col;
      planes_rows(tile, t.ocs);
    }
  }
  if (!conv.pool) return;
  const PoolBand band{{sums, 0, y.c, y.h, 1}, t.n, t.row, t.rows, t.col, t.cols, oc, t.ocs};
  store_pooled_planes(*conv.pool, band, sums + conv.blocking.output_floats);
}

}  // namespace
}  // namespace convkit
