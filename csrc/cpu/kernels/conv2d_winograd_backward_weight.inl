// Gradient of the weight in the Winograd domain, the forward transforms transposed:
//
//   grad_weight = G^T [ sum over tiles of (B^T d B) * (A dy A^T) ] G      d: a 6x6 patch of the input, dy: a 4x4 tile
//
// so each of the 36 points is a matrix product, input channels x tiles times tiles x output channels.
//
// A task owns a chunk of input channels x a chunk of output channels and every `splits`-th part of the blocks of tiles.
// It transforms a block of both into scratch, multiplies point by point into its sums, and transforms these at the end.
#pragma once

#include "cpu/kernels/conv2d_backward_weight.inl"
#include "cpu/kernels/conv2d_winograd.inl"

namespace convkit {
namespace {

// A dy and G^T m for one dimension: winograd_output and winograd_weight transposed.
inline void winograd_grad_output(const Vec (&y)[4], Vec (&m)[6]) {
  const Vec even1 = y[0] + 0.5625f * y[2], odd1 = 0.75f * y[1] + 0.421875f * y[3];
  const Vec even2 = y[0] + 2.25f * y[2], odd2 = 1.5f * y[1] + 3.375f * y[3];
  m[0] = y[0];
  m[1] = even1 + odd1;
  m[2] = even1 - odd1;
  m[3] = even2 + odd2;
  m[4] = even2 - odd2;
  m[5] = y[3];
}

inline void winograd_grad_weight(const Vec (&u)[6], Vec (&w)[3]) {
  constexpr float kScale0 = 64.0f / 81, kScale1 = -128.0f / 243, kScale2 = 32.0f / 243;
  const Vec sum1 = kScale1 * (u[1] + u[2]), difference1 = kScale1 * (u[1] - u[2]);
  const Vec sum2 = kScale2 * (u[3] + u[4]), difference2 = kScale2 * (u[3] - u[4]);
  w[0] = kScale0 * u[0] + sum1 + sum2;
  w[1] = 0.75f * difference1 + 1.5f * difference2;
  w[2] = 0.5625f * sum1 + (2.25f * sum2 + u[5]);
}

// -> gradient [36, oc panel, tiles, kTileCols], channels rounded up to whole panels.
void winograd_transform_grad_output(const Conv2dWinogradBackwardWeight& conv, const WinogradRun& run, int64_t tiles,
                                    int64_t oc, int64_t ocs, float* band, float* transformed) {
  const Conv2dShape& s = conv.shape;
  const int64_t channels = round_up(ocs, kTileCols), point = conv.blocking.grad_floats;
  const int64_t columns = run.tiles * kWinogradTile;
  const float* image = conv.grad_output.data + run.n * conv.grad_output.n + oc * conv.grad_output.c;
  if (channels > ocs) fill_zero(band, kWinogradTile * columns * channels);
  pack_band(conv.grad_output, image, {run.h * kWinogradTile, kWinogradTile, s.oh},
            {run.w * kWinogradTile, columns, s.ow}, ocs, channels, band);
  for (int64_t t = 0; t < run.tiles; ++t) {
    const float* pixels = band + t * kWinogradTile * channels;
    for (int64_t c = 0; c < channels; c += kLanes) {
      float* m = transformed + (c / kTileCols * tiles + run.first + t) * kTileCols + c % kTileCols;
      transform_2d<4, 6>(winograd_grad_output, TileView<const float>{pixels + c, columns * channels, channels},
                         TileView<float>{m, 6 * point, point}, kStore);
    }
  }
}

// sums [36, ics, channels] += input [36, tiles, ics] transposed * gradient
void winograd_multiply_tiles(const Conv2dWinogradBackwardWeight& conv, const float* input, const float* grad,
                             int64_t tiles, int64_t ics, int64_t channels, bool accumulate, float* sums) {
  const Conv2dWinogradBackwardWeightBlocking& b = conv.blocking;
  GemmTile tile{};
  tile.a_row = 1;
  tile.a_inner = round_up(ics, kLanes);
  tile.a_outer = kWinogradChain * tile.a_inner;
  tile.outer = ceil_div(tiles, kWinogradChain);
  tile.inner = kWinogradChain;
  tile.missing_inner = tile.outer * kWinogradChain - tiles;
  tile.run = 1;
  tile.split = true;
  tile.c_row = channels;
  tile.cols = kTileCols;
  tile.accumulate = accumulate;
  for (int64_t point = 0; point < kWinogradPoints; ++point) {
    for (int64_t o = 0; o < channels; o += kTileCols) {
      tile.a = input + point * b.input_floats;
      tile.b = grad + point * b.grad_floats + o * tiles;
      tile.c = sums + point * b.sum_floats + o;
      gemm_rows(tile, ics);
    }
  }
}

void conv2d_winograd_backward_weight(const Conv2dWinogradBackwardWeight& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dWinogradBackwardWeightBlocking& b = conv.blocking;
  BackwardWeightTask t{};
  t.oc = task % b.oc_chunks * b.oc_chunk;
  task /= b.oc_chunks;
  t.ic = task % b.ic_chunks * b.ic_chunk;
  t.split = task / b.ic_chunks;
  t.ics = min(b.ic_chunk, s.ic - t.ic);
  t.ocs = min(b.oc_chunk, s.oc - t.oc);
  float* input = scratch;
  float* grad = input + kWinogradPoints * b.input_floats;
  float* sums = grad + kWinogradPoints * b.grad_floats;
  float* run_pixels = sums + kWinogradPoints * b.sum_floats;
  const int64_t channels = round_up(t.ocs, kTileCols);

  const int64_t all = s.n * b.tiles_h * b.tiles_w;
  const int64_t first = b.tile_blocks * t.split / b.splits, last = b.tile_blocks * (t.split + 1) / b.splits;
  for (int64_t block = first; block < last; ++block) {
    const int64_t begin = block * b.tiles, end = min(begin + b.tiles, all);
    for_each_run(b, begin, end, [&](const WinogradRun& run) {
      winograd_transform_input(conv, run, t.ic, t.ics, run_pixels, input);
      winograd_transform_grad_output(conv, run, end - begin, t.oc, t.ocs, run_pixels, grad);
    });
    winograd_multiply_tiles(conv, input, grad, end - begin, t.ics, channels, block > first, sums);
  }

  const int64_t columns = round_up(b.oc_chunk, kTileCols), tap_floats = b.ic_chunk * columns;
  for (int64_t ic = 0; ic < t.ics; ++ic)
    for (int64_t c = 0; c < channels; c += kLanes)
      transform_2d<6, 3>(winograd_grad_weight,
                         TileView<const float>{sums + ic * channels + c, 6 * b.sum_floats, b.sum_floats},
                         TileView<float>{run_pixels + ic * columns + c, 3 * tap_floats, tap_floats}, kStore);
  store_weight(conv, t, round_up(b.oc_chunk, kTileCols), run_pixels);
}

}  // namespace
}  // namespace convkit
