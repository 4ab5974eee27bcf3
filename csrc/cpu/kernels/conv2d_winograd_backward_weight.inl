// Gradient of the weight in the Winograd domain, the forward transforms transposed:
//
//   grad_weight = G^T [ sum over tiles of (B^T d B) * (A dy A^T) ] G      d: a patch of the input, dy: a tile
//
// so each of the points is a matrix product, input channels x tiles times tiles x output channels.
//
// A task owns a chunk of input channels x a chunk of output channels and every `splits`-th part of the blocks of tiles.
// It transforms a block of both into scratch, multiplies point by point into its sums, and transforms these at the end.
#pragma once

#include "cpu/kernels/conv2d_backward_weight.inl"
#include "cpu/kernels/conv2d_winograd.inl"

namespace convkit {
namespace {

// -> gradient [points, oc panel, tiles, kTileCols], channels rounded up to whole panels.
template <typename W>
void winograd_transform_grad_output(const Conv2dWinogradBackwardWeight& conv, const WinogradRun& run, int64_t tiles,
                                    int64_t oc, int64_t ocs, float* band, float* transformed) {
  const Conv2dShape& s = conv.shape;
  const int64_t channels = round_up(ocs, kTileCols), point = conv.blocking.grad_floats;
  const int64_t columns = run.tiles * W::kTile;
  const float* image = conv.grad_output.data + run.n * conv.grad_output.n + oc * conv.grad_output.c;
  if (channels > ocs) fill_zero(band, W::kTile * columns * channels);
  pack_band(conv.grad_output, image, {run.h * W::kTile, W::kTile, s.oh}, {run.w * W::kTile, columns, s.ow}, ocs,
            channels, band);
  for (int64_t t = 0; t < run.tiles; ++t) {
    const float* pixels = band + t * W::kTile * channels;
    for (int64_t c = 0; c < channels; c += kLanes) {
      float* m = transformed + (c / kTileCols * tiles + run.first + t) * kTileCols + c % kTileCols;
      transform_2d<W::kTile, W::kPatch>(W::kGradOutput, TileView<const float>{pixels + c, columns * channels, channels},
                                        TileView<float>{m, W::kPatch * point, point}, kStore);
    }
  }
}

// sums [points, ics, channels] += input [points, tiles, ics] transposed * gradient
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
  for (int64_t point = 0; point < b.points(); ++point) {
    for (int64_t o = 0; o < channels; o += kTileCols) {
      tile.a = input + point * b.input_floats;
      tile.b = grad + point * b.grad_floats + o * tiles;
      tile.c = sums + point * b.sum_floats + o;
      gemm_rows(tile, ics);
    }
  }
}

template <typename W>
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
  float* grad = input + W::kPoints * b.input_floats;
  float* sums = grad + W::kPoints * b.grad_floats;
  float* run_pixels = sums + W::kPoints * b.sum_floats;
  const int64_t channels = round_up(t.ocs, kTileCols);

  const int64_t all = s.n * b.tiles_h * b.tiles_w;
  const int64_t first = b.tile_blocks * t.split / b.splits, last = b.tile_blocks * (t.split + 1) / b.splits;
  for (int64_t block = first; block < last; ++block) {
    const int64_t begin = block * b.tiles, end = min(begin + b.tiles, all);
    for_each_run(b, begin, end, [&](const WinogradRun& run) {
      winograd_transform_input<W>(conv, run, t.ic, t.ics, run_pixels, input);
      winograd_transform_grad_output<W>(conv, run, end - begin, t.oc, t.ocs, run_pixels, grad);
    });
    winograd_multiply_tiles(conv, input, grad, end - begin, t.ics, channels, block > first, sums);
  }

  const int64_t columns = round_up(b.oc_chunk, kTileCols), tap_floats = b.ic_chunk * columns;
  for (int64_t ic = 0; ic < t.ics; ++ic)
    for (int64_t c = 0; c < channels; c += kLanes)
      transform_2d<W::kPatch, W::kWindow>(
          W::kGradWeight, TileView<const float>{sums + ic * channels + c, W::kPatch * b.sum_floats, b.sum_floats},
          TileView<float>{run_pixels + ic * columns + c, W::kWindow * tap_floats, tap_floats}, kStore);
  store_weight(conv, t, round_up(b.oc_chunk, kTileCols), run_pixels);
}

template <int Tile, int Window>
constexpr Conv2dWinogradVariant conv2d_winograd_variant() {
  using W = Winograd<Tile, Window>;
  return {{conv2d_winograd_functions<W, float>(), conv2d_winograd_functions<W, BFloat16>()},
          conv2d_winograd_backward_weight<W>};
}

}  // namespace
}  // namespace convkit
