// Winograd convolution F(tile x tile, window x window), stride 1 (winograd_transforms.inl). F(4x4, 3x3) computes 16
// output pixels of a 3x3 window with 36 products instead of 144, F(2x2, 3x3) 4 pixels with 16 instead of 36, F(2x2,
// 5x5) 4 pixels of a 5x5 window with 36 instead of 100.
//
// The elementwise product of transformed patches and weights, summed over input channels, is a matrix product for each
// of the points: tiles x input channels times input channels x output channels.
//
// A task owns a block of tiles and a chunk of output channels. For each chunk of input channels it multiplies patches
// and weights point by point. What several tasks need is transformed before they run, if it fits in cache: patches a
// stage of blocks at a time, weights all at once. Otherwise a task transforms what it needs: many weights, transformed,
// would cross the memory bus at up to four times their size, which costs about what it takes to transform them again.
#pragma once

#include "cpu/kernels/conv2d_pool.inl"
#include "cpu/kernels/conv2d_winograd.h"
#include "cpu/kernels/conv2d_winograd_weight.inl"
#include "cpu/kernels/gemm_tile.inl"
#include "cpu/kernels/pack.inl"
#include "cpu/kernels/winograd_transforms.inl"

namespace convkit {
namespace {

// Products that are summed one after the other before they are added to the rest. After a ReLU the relative error
// is 2.0 to 2.8 times that of direct sums; with chains of 32, which are 1.5 % faster, up to 3.2 times.
constexpr int64_t kWinogradChain = 16;

// A block of tiles is walked in runs of tiles side by side: tiles [first, first + tiles) of the task lie in tile row
// `h` of image `n`, from tile column `w` on.
struct WinogradRun {
  int64_t first, tiles;
  int64_t n, h, w;
};

template <typename Blocking, typename Body>
void for_each_run(const Blocking& b, int64_t begin, int64_t end, Body body) {
  for (int64_t tile = begin; tile < end;) {
    const int64_t w = tile % b.tiles_w, row = tile / b.tiles_w;
    const int64_t tiles = min(min(b.tiles_w - w, b.run), end - tile);
    body(WinogradRun{tile - begin, tiles, row / b.tiles_h, row % b.tiles_h, w});
    tile += tiles;
  }
}

// Whether transformed patches are for other threads too.
template <typename T>
inline bool shares_patches(const Conv2dWinograd<T>& conv) {
  return conv.patches && conv.shared;
}
inline bool shares_patches(const Conv2dWinogradBackwardWeight&) { return false; }

// -> transformed [points, `point` apart][ics] of one patch [kPatch, kPatch, ics], whose channels fill whole vectors.
template <typename W, typename From, typename Finish>
[[gnu::noinline]] void winograd_transform_patch(TileView<const From> patch, int64_t ics, float* transformed,
                                                int64_t point, Finish finish) {
  for (int64_t c = 0; c < ics; c += kLanes)
    transform_2d<W::kPatch, W::kPatch>(W::kInput, TileView<const From>{patch.data + c, patch.row, patch.col},
                                       TileView<float>{transformed + c, W::kPatch * point, point}, finish);
}

// -> input [points, tiles, channels], channels rounded up to whole vectors.
template <typename W, typename Conv>
void winograd_transform_input(const Conv& conv, const WinogradRun& run, int64_t ic, int64_t ics, float* band,
                              float* transformed) {
  const Conv2dShape& s = conv.shape;
  const auto& x = conv.input;
  const int64_t channels = round_up(ics, kLanes), point = conv.blocking.input_floats;
  const auto* image = x.data + run.n * x.n + ic * x.c;
  const int64_t h = run.h * W::kTile - s.pad_top, w = run.w * W::kTile - s.pad_left;
  const int64_t columns = run.tiles * W::kTile + W::kWindow - 1;
  float* v = transformed + run.first * channels;
  const auto transform_patch = [&](auto patch) {
    if (shares_patches(conv))
      winograd_transform_patch<W>(patch, channels, v, point, kStoreFar);
    else
      winograd_transform_patch<W>(patch, channels, v, point, kStore);
  };
  if (channels > ics) fill_zero(band, W::kPatch * columns * channels);
  if (x.c == 1 && channels == ics) {  // patches inside a channels_last image are read where they lie
    for (int64_t t = 0; t < run.tiles; ++t, v += channels) {
      const int64_t col = w + t * W::kTile;
      if (h >= 0 && h + W::kPatch <= s.ih && col >= 0 && col + W::kPatch <= s.iw) {
        transform_patch(TileView{image + h * x.h + col * x.w, x.h, x.w});
      } else {
        pack_band(x, image, {h, W::kPatch, s.ih}, {col, W::kPatch, s.iw}, ics, ics, band);
        transform_patch(TileView<const float>{band, W::kPatch * ics, ics});
      }
    }
    return;
  }
  pack_band(x, image, {h, W::kPatch, s.ih}, {w, columns, s.iw}, ics, channels, band);
  for (int64_t t = 0; t < run.tiles; ++t, v += channels)
    transform_patch(TileView<const float>{band + t * W::kTile * channels, columns * channels, channels});
}

// sums [points, tiles, channels] -> the run's pixels, with bias and ReLU.
template <typename W, typename T>
void winograd_transform_output(const Conv2dWinograd<T>& conv, const WinogradRun& run, int64_t oc, int64_t ocs,
                               const float* sums, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const View4d<T>& y = conv.output;
  const int64_t channels = round_up(ocs, kLanes), point = conv.blocking.sum_floats;
  const int64_t row = run.h * W::kTile, col = run.w * W::kTile, width = run.tiles * W::kTile;
  const int64_t rows = min(W::kTile, s.oh - row), cols = min(width, s.ow - col);
  T* const origin = conv.pool ? nullptr : y.data + run.n * y.n + oc * y.c + row * y.h + col * y.w;
  const auto transform = [&](auto* pixels, int64_t pixel_row, int64_t pixel, auto store_to) {
    for (int64_t c = 0; c < channels; c += kLanes) {
      const Vec bias = !conv.bias || c >= ocs ? Vec{} : load_first(conv.bias + oc + c, min(kLanes, ocs - c));
      const auto finish = [=, activation = conv.activation](auto* place, Vec value) {
        store_to(place, activate(activation, value + bias));
      };
      for (int64_t t = 0; t < run.tiles; ++t) {
        const TileView<const float> from{sums + (run.first + t) * channels + c, W::kPatch * point, point};
        transform_2d<W::kPatch, W::kTile>(W::kOutput, from,
                                          TileView{pixels + t * W::kTile * pixel + c, pixel_row, pixel}, finish);
      }
    }
  };
  // A run that lies in a channels_last output as a whole is written there.
  if (!conv.pool && y.c == 1 && channels == ocs && rows == W::kTile && cols == width)
    return transform(origin, y.h, y.w, kStoreFar);
  const int64_t pixel_row = width * channels;
  if (!conv.pool) {
    transform(scratch, pixel_row, channels, kStore);
    return store_pixels(scratch, pixel_row, channels, y, origin, rows, cols, ocs);
  }
  // Which of its values wins a window shows when they are rounded.
  transform(scratch, pixel_row, channels, [](float* place, Vec value) { store(place, rounded<T>(value)); });
  const View4d<const float> view{scratch, 0, 1, pixel_row, channels};
  store_pooled(*conv.pool, {view, run.n, row, rows, col, cols, oc, ocs}, scratch + W::kTile * pixel_row);
}

// One part of a block of the stage, for all of the block's tasks.
template <typename W, typename T>
void conv2d_winograd_transform_input(const Conv2dWinograd<T>& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dWinogradBlocking& b = conv.blocking;
  const int64_t part = task % conv.parts(), chunk = task / conv.parts() % b.ic_chunks;
  const int64_t block = task / conv.parts() / b.ic_chunks, ic = chunk * b.ic_chunk;
  const int64_t block_begin = (conv.first_block + block) * b.tiles;
  const int64_t all = min(block_begin + b.tiles, s.n * b.tiles_h * b.tiles_w);
  const int64_t begin = min(block_begin + part * kWinogradPart, all), end = min(begin + kWinogradPart, all);
  const int64_t ics = min(b.ic_chunk, s.ic - ic);
  float* transformed = conv.patches + block * b.patch_floats() + chunk * W::kPoints * b.input_floats +
                       (begin - block_begin) * round_up(ics, kLanes);
  for_each_run(b, begin, end,
               [&](const WinogradRun& run) { winograd_transform_input<W>(conv, run, ic, ics, scratch, transformed); });
}

// sums [points, tiles, ocs] (+)= input [points, tiles, ics] * weight [points, oc panel, ics, kTileCols]
void winograd_multiply(const Conv2dWinogradBlocking& b, const float* input, const float* weight, int64_t tiles,
                       int64_t ics, int64_t ocs, bool accumulate, float* sums) {
  GemmTile tile{};
  tile.a_row = round_up(ics, kLanes);
  tile.a_outer = kWinogradChain;
  tile.outer = ceil_div(ics, kWinogradChain);
  tile.inner = 1;
  tile.run = kWinogradChain;
  tile.missing_run = tile.outer * kWinogradChain - ics;
  tile.split = true;
  tile.c_row = round_up(ocs, kLanes);
  tile.accumulate = accumulate;
  for (int64_t point = 0; point < b.points(); ++point) {
    for (int64_t o = 0; o < ocs; o += kTileCols) {
      tile.a = input + point * b.input_floats;
      tile.b = weight + point * b.weight_floats + o * ics;
      tile.c = sums + point * b.sum_floats + o;
      tile.cols = min(kTileCols, tile.c_row - o);
      gemm_rows(tile, tiles);
    }
  }
}

template <typename W, typename T>
void conv2d_winograd_forward(const Conv2dWinograd<T>& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dWinogradBlocking& b = conv.blocking;
  // Output channels run fastest: neighbouring tasks, which a thread gets in a row, share their input.
  const int64_t own_chunks = conv.task_oc_chunks(), tasks = b.oc_chunks / own_chunks, block = task / tasks;
  const int64_t begin = (conv.first_block + block) * b.tiles;
  const int64_t end = min(begin + b.tiles, s.n * b.tiles_h * b.tiles_w);
  float* sums = scratch;
  float* run_pixels = sums + W::kPoints * b.sum_floats;
  float* panel = run_pixels + b.run_floats;
  float* const own = panel + b.panel_floats;  // patches or weights
  const auto chunk_patches = [&](float* patches, int64_t chunk) {
    return patches + chunk * W::kPoints * b.input_floats;
  };
  const auto channels_of = [&](int64_t chunk) { return min(b.ic_chunk, s.ic - chunk * b.ic_chunk); };

  float* patches = conv.patches ? conv.patches + block * b.patch_floats() : own;
  for (int64_t chunk = 0; !conv.patches && chunk < b.ic_chunks; ++chunk)
    for_each_run(b, begin, end, [&](const WinogradRun& run) {
      winograd_transform_input<W>(conv, run, chunk * b.ic_chunk, channels_of(chunk), run_pixels,
                                  chunk_patches(patches, chunk));
    });
  for (int64_t oc_chunk = task % tasks * own_chunks, left = own_chunks; left > 0; ++oc_chunk, --left) {
    const int64_t oc = oc_chunk * b.oc_chunk, ocs = min(b.oc_chunk, s.oc - oc);
    for (int64_t chunk = 0; chunk < b.ic_chunks; ++chunk) {
      const WinogradWeightBlock weights = winograd_weight_block(conv, oc_chunk * b.ic_chunks + chunk);
      float* weight = own;
      if (conv.transformed_weight)
        weight = conv.transformed_weight + weights.index * b.transformed_floats();
      else
        winograd_transform_weight<W>(conv, weights, weight, panel);
      winograd_multiply(b, chunk_patches(patches, chunk), weight, end - begin, channels_of(chunk), ocs, chunk > 0,
                        sums);
    }
    for_each_run(b, begin, end,
                 [&](const WinogradRun& run) { winograd_transform_output<W>(conv, run, oc, ocs, sums, run_pixels); });
  }
}

template <typename W, typename T>
constexpr Conv2dWinogradFunctions<T> conv2d_winograd_functions() {
  return {conv2d_winograd_transform_input<W, T>, conv2d_winograd_forward<W, T>, conv2d_winograd_pack_weight<W, T>,
          conv2d_winograd_transform_weight<W, T>};
}

}  // namespace
}  // namespace convkit
