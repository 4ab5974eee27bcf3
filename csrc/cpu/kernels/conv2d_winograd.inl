// Winograd convolution F(4x4, 3x3): 36 products for 16 output pixels of a 3x3 window instead of 144.
//
//   output tile = A^T [ (G w G^T) * (B^T d B) ] A        d: a 6x6 patch of the input, w: a 3x3 window
//
// The elementwise product, summed over input channels, is 36 independent matrix products, tiles x input channels times
// input channels x output channels: one for each of the 36 points. The matrices follow from the interpolation points 0,
// +-3/4, +-3/2 and infinity (Toom-Cook); these points keep the transforms' numbers small and exact in binary, which
// halves the rounding error of the usual 0, +-1, +-2.
//
// A task owns a block of tiles and a chunk of output channels. For each chunk of input channels it transforms its
// patches and its weights into scratch, then multiplies point by point. So transformed weights never leave the cache,
// and nobody has to keep them: four times the weights would cross the memory bus, which costs about what it takes to
// transform them again.
#pragma once

#include "cpu/kernels/conv2d_pool.inl"
#include "cpu/kernels/conv2d_winograd.h"
#include "cpu/kernels/gemm_tile.inl"
#include "cpu/kernels/pack.inl"

namespace convkit {
namespace {

// Products that are summed one after the other before they are added to the rest. With chains of 64 the relative error
// of 128 channels is 2.8 instead of 2.2 times that of direct sums (3.2 instead of 2.6 after a ReLU), and 256@56 takes
// 15.2 instead of 15.6 ms.
constexpr int64_t kWinogradChain = 32;

// B^T d, G w and A^T m for one dimension. Rows of opposite points share their even and odd parts.
inline void winograd_input(const Vec (&d)[6], Vec (&v)[6]) {
  const Vec even1 = d[4] - 2.25f * d[2], odd1 = d[3] - 2.25f * d[1];
  const Vec even2 = d[4] - 0.5625f * d[2], odd2 = d[3] - 0.5625f * d[1];
  v[0] = 1.265625f * d[0] + (d[4] - 2.8125f * d[2]);
  v[1] = even1 + 0.75f * odd1;
  v[2] = even1 - 0.75f * odd1;
  v[3] = even2 + 1.5f * odd2;
  v[4] = even2 - 1.5f * odd2;
  v[5] = 1.265625f * d[1] + (d[5] - 2.8125f * d[3]);
}

inline void winograd_weight(const Vec (&w)[3], Vec (&u)[6]) {
  constexpr float kScale0 = 64.0f / 81, kScale1 = -128.0f / 243, kScale2 = 32.0f / 243;
  const Vec even1 = kScale1 * (w[0] + 0.5625f * w[2]), even2 = kScale2 * (w[0] + 2.25f * w[2]);
  u[0] = kScale0 * w[0];
  u[1] = even1 + (0.75f * kScale1) * w[1];
  u[2] = even1 - (0.75f * kScale1) * w[1];
  u[3] = even2 + (1.5f * kScale2) * w[1];
  u[4] = even2 - (1.5f * kScale2) * w[1];
  u[5] = w[2];
}

inline void winograd_output(const Vec (&m)[6], Vec (&y)[4]) {
  const Vec sum1 = m[1] + m[2], difference1 = m[1] - m[2], sum2 = m[3] + m[4], difference2 = m[3] - m[4];
  y[0] = m[0] + sum1 + sum2;
  y[1] = 0.75f * difference1 + 1.5f * difference2;
  y[2] = 0.5625f * sum1 + 2.25f * sum2;
  y[3] = 0.421875f * difference1 + (3.375f * difference2 + m[5]);
}

// The same in two dimensions: out[i][j] = sum over r, s of T[i][r] in[r][s] T[j][s], columns first. `load_at(r, s)`
// gives the input, `store_at(i, j, value)` takes the result.
template <int In, int Out, typename Transform, typename LoadAt, typename StoreAt>
inline void transform_2d(Transform transform, LoadAt load_at, StoreAt store_at) {
  Vec columns[Out][In];
#pragma GCC unroll 6
  for (int s = 0; s < In; ++s) {
    Vec in[In], out[Out];
#pragma GCC unroll 6
    for (int r = 0; r < In; ++r) in[r] = load_at(r, s);
    transform(in, out);
#pragma GCC unroll 6
    for (int i = 0; i < Out; ++i) columns[i][s] = out[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < Out; ++i) {
    Vec out[Out];
    transform(columns[i], out);
#pragma GCC unroll 6
    for (int j = 0; j < Out; ++j) store_at(i, j, out[j]);
  }
}

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

// -> input [36, tiles, channels], channels rounded up to whole vectors.
template <typename Conv>
void winograd_transform_input(const Conv& conv, const WinogradRun& run, int64_t ic, int64_t ics, float* band,
                              float* transformed) {
  const Conv2dShape& s = conv.shape;
  const int64_t channels = round_up(ics, kLanes), point = conv.blocking.input_floats;
  const int64_t columns = run.tiles * kWinogradTile + 2;
  const float* image = conv.input.data + run.n * conv.input.n + ic * conv.input.c;
  if (channels > ics) fill_zero(band, kWinogradPatch * columns * channels);
  pack_band(conv.input, image, {run.h * kWinogradTile - s.pad_top, kWinogradPatch, s.ih},
            {run.w * kWinogradTile - s.pad_left, columns, s.iw}, ics, channels, band);
  for (int64_t t = 0; t < run.tiles; ++t) {
    const float* patch = band + t * kWinogradTile * channels;
    float* v = transformed + (run.first + t) * channels;
    for (int64_t c = 0; c < channels; c += kLanes)
      transform_2d<6, 6>(
          winograd_input, [&](int r, int s) { return load(patch + (r * columns + s) * channels + c); },
          [&](int i, int j, Vec value) { store(v + (i * 6 + j) * point + c, value); });
  }
}

// -> weights [36, oc panel, ics, kTileCols]
void winograd_transform_weight(const Conv2dWinograd& conv, int64_t oc, int64_t ocs, int64_t ic, int64_t ics,
                               float* panel, float* transformed) {
  const View4d<const float>& w = conv.weight;
  const int64_t point = conv.blocking.weight_floats, size = ics * kTileCols;
  for (int64_t o = 0; o < ocs; o += kTileCols, transformed += size) {
    pack_weight_panel(w, w.data + (oc + o) * w.n + ic * w.c, 3, 3, ics, min(kTileCols, ocs - o), panel);
    for (int64_t i = 0; i < size; i += kLanes)
      transform_2d<3, 6>(
          winograd_weight, [&](int r, int s) { return load(panel + (r * 3 + s) * size + i); },
          [&](int r, int s, Vec value) { store(transformed + (r * 6 + s) * point + i, value); });
  }
}

// sums [36, tiles, channels] -> the run's pixels, with bias and ReLU.
void winograd_transform_output(const Conv2dWinograd& conv, const WinogradRun& run, int64_t oc, int64_t ocs,
                               const float* sums, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const View4d<float>& y = conv.output;
  const int64_t channels = round_up(ocs, kTileCols), point = conv.blocking.sum_floats;
  const int64_t row = run.h * kWinogradTile, col = run.w * kWinogradTile, width = run.tiles * kWinogradTile;
  const int64_t rows = min(kWinogradTile, s.oh - row), cols = min(width, s.ow - col);
  float* const origin = conv.pool ? nullptr : y.data + run.n * y.n + oc * y.c + row * y.h + col * y.w;
  // A run that lies in a channels_last output as a whole is written there.
  const bool in_place = !conv.pool && y.c == 1 && channels == ocs && rows == kWinogradTile && cols == width;
  float* const pixels = in_place ? origin : scratch;
  const int64_t pixel_row = in_place ? y.h : width * channels, pixel = in_place ? y.w : channels;
  for (int64_t c = 0; c < channels; c += kLanes) {
    const Vec bias = !conv.bias || c >= ocs ? Vec{} : load_first(conv.bias + oc + c, min(kLanes, ocs - c));
    for (int64_t t = 0; t < run.tiles; ++t) {
      const float* m = sums + (run.first + t) * channels + c;
      float* tile = pixels + t * kWinogradTile * pixel + c;
      transform_2d<6, 4>(
          winograd_output, [&](int i, int j) { return load(m + (i * 6 + j) * point); },
          [&](int r, int s, Vec value) {
            value += bias;
            store(tile + r * pixel_row + s * pixel, conv.relu ? relu(value) : value);
          });
    }
  }
  if (conv.pool) {
    const View4d<const float> view{pixels, 0, 1, pixel_row, pixel};
    store_pooled(*conv.pool, {view, run.n, row, rows, col, cols, oc, ocs}, scratch + kWinogradTile * pixel_row);
  } else if (!in_place) {
    store_pixels(pixels, pixel_row, pixel, y, origin, rows, cols, ocs);
  }
}

void conv2d_winograd_pack_weight(const Conv2dWinograd& conv, int64_t block, float* packed, float* scratch) {
  const Conv2dWinogradBlocking& b = conv.blocking;
  const int64_t oc = block / b.ic_chunks * b.oc_chunk, ic = block % b.ic_chunks * b.ic_chunk;
  const int64_t ocs = min(b.oc_chunk, conv.shape.oc - oc), ics = min(b.ic_chunk, conv.shape.ic - ic);
  winograd_transform_weight(conv, oc, ocs, ic, ics, scratch, packed + block * conv.block_floats());
}

void conv2d_winograd_forward(const Conv2dWinograd& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dWinogradBlocking& b = conv.blocking;
  // Output channels run fastest: neighbouring tasks, which a thread gets in a row, share their input.
  const int64_t oc = task % b.oc_chunks * b.oc_chunk, ocs = min(b.oc_chunk, s.oc - oc);
  const int64_t begin = task / b.oc_chunks * b.tiles;
  const int64_t end = min(begin + b.tiles, s.n * b.tiles_h * b.tiles_w);
  float* input = scratch;
  float* scratch_weight = input + kWinogradPoints * b.input_floats;
  float* sums = scratch_weight + kWinogradPoints * b.weight_floats;
  float* run_pixels = sums + kWinogradPoints * b.sum_floats;
  float* panel = run_pixels + b.run_floats;

  for (int64_t ic = 0; ic < s.ic; ic += b.ic_chunk) {
    const int64_t ics = min(b.ic_chunk, s.ic - ic);
    for_each_run(b, begin, end,
                 [&](const WinogradRun& run) { winograd_transform_input(conv, run, ic, ics, run_pixels, input); });
    const int64_t block = oc / b.oc_chunk * b.ic_chunks + ic / b.ic_chunk;
    const float* weight = conv.packed_weight ? conv.packed_weight + block * conv.block_floats() : scratch_weight;
    if (!conv.packed_weight) winograd_transform_weight(conv, oc, ocs, ic, ics, panel, scratch_weight);
    GemmTile tile{};
    tile.a_row = round_up(ics, kLanes);
    tile.a_outer = kWinogradChain;
    tile.inner = 1;
    tile.c_row = round_up(ocs, kTileCols);
    tile.cols = kTileCols;
    for (int64_t point = 0; point < kWinogradPoints; ++point) {
      for (int64_t o = 0; o < ocs; o += kTileCols) {
        tile.c = sums + point * b.sum_floats + o;
        for (int64_t i = 0; i < ics; i += tile.outer * tile.run) {  // whole chains, then the rest
          tile.a = input + point * b.input_floats + i;
          tile.b = weight + point * b.weight_floats + o * ics + i * kTileCols;
          tile.outer = max((ics - i) / kWinogradChain, 1);
          tile.run = min(kWinogradChain, ics - i);
          tile.split = tile.outer > 1;
          tile.accumulate = ic + i > 0;
          gemm_rows(tile, end - begin);
        }
      }
    }
  }
  for_each_run(b, begin, end,
               [&](const WinogradRun& run) { winograd_transform_output(conv, run, oc, ocs, sums, run_pixels); });
}

}  // namespace
}  // namespace convkit
