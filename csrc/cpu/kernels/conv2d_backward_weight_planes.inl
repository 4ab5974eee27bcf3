// Gradient of the weight of few output channels, which as columns would leave most of a vector empty: here the output
// columns of a row are in the lanes, and a tile is output channels x weights of each.
//
// A vector of grad_output, which is read where it lies if its columns lie side by side, meets each vector of input that
// a weight's tap shifts; a vector of input serves all channels of the tile. Tasks, bands, the packed input and the
// table of where the pixels of each weight begin are those of conv2d_backward_weight.inl. Sums stay vectors until all
// bands of a task have been added up.
#pragma once

#include "cpu/kernels/conv2d_backward_weight_band.inl"

namespace convkit {
namespace {

// Channels x weights of a tile: with 32 registers 24 sums, with 16 registers 12, beside a vector of grad_output for
// each channel and one of input. Shifted vectors straddle cache lines, so a load of one counts twice: 14 loads for 24
// multiply-adds.
constexpr int kPlanesWeights = 4;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kPlanesChannels = 6;
#else
constexpr int kPlanesChannels = 3;
#endif

struct WeightPlanesTile {
  const float* grad;  // [channels, rows, cols]
  int64_t grad_channel, grad_row;
  const float* x;  // of the first pixel; `first` leads to that of each weight
  const int64_t* first;
  int64_t x_row;
  int64_t rows, cols;
  float* sums;  // [channels, weights] vectors
  int64_t sums_channel;
  bool accumulate;
};

template <int Channels, int Weights>
void weight_planes_tile(const WeightPlanesTile& tile) {
  Vec sum[Channels][Weights];
  for_each_vector(sum, [](Vec& value, int, int) { value = Vec{}; });
  const int64_t tail = (tile.cols - 1) / kLanes * kLanes, rest = tile.cols - tail, grad_channel = tile.grad_channel;
  IntVec exists;
  for (int lane = 0; lane < kLanes; ++lane) exists[lane] = lane < rest ? -1 : 0;
  const float *grad = tile.grad, *x[Weights];
#pragma GCC unroll 4
  for (int w = 0; w < Weights; ++w) x[w] = tile.x + tile.first[w];
  const auto add = [&](int64_t col, auto load_grad, auto load_x) {
    Vec g[Channels];
#pragma GCC unroll 6
    for (int c = 0; c < Channels; ++c) g[c] = load_grad(grad + c * grad_channel + col);
#pragma GCC unroll 4
    for (int w = 0; w < Weights; ++w) {
      const Vec value = load_x(x[w] + col);
#pragma GCC unroll 6
      for (int c = 0; c < Channels; ++c) sum[c][w] += g[c] * value;
    }
  };
  for (int64_t r = 0; r < tile.rows; ++r, grad += tile.grad_row) {
    for (int64_t col = 0; col < tail; col += kLanes)
      add(col, [](const float* p) { return load(p); }, [](const float* p) { return load(p); });
    // Beyond the last column of grad_output there are zeros, and what they would meet, which may be Inf or NaN, is
    // taken for zero too.
    add(
        tail, [&](const float* p) { return rest == kLanes ? load(p) : load_first(p, rest); },
        [&](const float* p) { return exists ? load(p) : Vec{}; });
#pragma GCC unroll 4
    for (int w = 0; w < Weights; ++w) x[w] += tile.x_row;
  }
  float* const sums = tile.sums;
  const int64_t sums_channel = tile.sums_channel;
  store_sums(sum, tile.accumulate, [&](int c, int w) { return sums + c * sums_channel + w * kLanes; });
}

typedef void WeightPlanesFunction(const WeightPlanesTile&);

struct WeightPlanesTiles {
  WeightPlanesFunction* of[kPlanesChannels][kPlanesWeights];  // by channels - 1, weights - 1
};

template <int... Channel>
constexpr WeightPlanesTiles make_weight_planes_tiles(std::integer_sequence<int, Channel...>) {
  static_assert(kPlanesWeights == 4);
  return {{{weight_planes_tile<Channel + 1, 1>, weight_planes_tile<Channel + 1, 2>, weight_planes_tile<Channel + 1, 3>,
            weight_planes_tile<Channel + 1, 4>}...}};
}

constexpr WeightPlanesTiles kWeightPlanesTiles =
    make_weight_planes_tiles(std::make_integer_sequence<int, kPlanesChannels>{});

// All of a band, in tiles of equal size, as near as can be.
void weight_planes_band(WeightPlanesTile tile, int64_t channels, int64_t weights) {
  for (int64_t left = ceil_div(channels, kPlanesChannels); left > 0; --left) {
    const int64_t height = ceil_div(channels, left);
    WeightPlanesTile part = tile;
    for (int64_t rest = weights, parts = ceil_div(weights, kPlanesWeights); parts > 0; --parts) {
      const int64_t width = ceil_div(rest, parts);
      kWeightPlanesTiles.of[height - 1][width - 1](part);
      part.first += width;
      part.sums += width * kLanes;
      rest -= width;
    }
    tile.grad += height * tile.grad_channel;
    tile.sums += height * tile.sums_channel;
    channels -= height;
  }
}

// sums[i] = the sum of the lanes of vector i; the sums may begin where the vectors do.
void add_lanes(float* vectors, int64_t count, float* sums) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t number = min(kLanes, count - i);
    Vec block[kLanes];
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) block[r] = r < number ? load(vectors + (i + r) * kLanes) : Vec{};
    transpose(block);
#pragma GCC unroll 4
    for (int step = 1; step < kLanes; step *= 2)
#pragma GCC unroll 16
      for (int r = 0; r + step < kLanes; r += 2 * step) block[r] += block[r + step];
    store_first(sums + i, block[0], number);
  }
}

// sums [oc, kh, kw, ic] -> the weight's strides.
void store_planes_weight(const Conv2dBackwardWeight& conv, const BackwardWeightTask& t, const float* sums) {
  const Conv2dShape& s = conv.shape;
  const View4d<float>& g = conv.grad_weight;
  float* out = g.data + t.split * conv.split_stride + (t.group * s.group_oc() + t.oc) * g.n + t.ic * g.c;
  for (int64_t oc = 0; oc < t.ocs; ++oc)
    for (int64_t kh = 0; kh < s.kh; ++kh)
      for (int64_t kw = 0; kw < s.kw; ++kw)
        for (int64_t ic = 0; ic < t.ics; ++ic) out[oc * g.n + ic * g.c + kh * g.h + kw * g.w] = *sums++;
}

// -> packed [ocs, rows, cols]
void pack_grad_planes(const View4d<const float>& g, const float* grad, const PixelBand& band, int64_t ocs,
                      float* packed) {
  const bool one_row = g.h == band.cols * g.w;
  const int64_t pixels = band.rows * band.cols, run = one_row ? pixels : band.cols;
  for (int64_t i = 0; i < pixels; i += run, grad += g.h) strided_copy(grad, g.c, g.w, packed + i, pixels, ocs, run);
}

void conv2d_backward_weight_planes(const Conv2dBackwardWeight& conv, int64_t task, float* memory) {
  const Conv2dShape& s = conv.shape;
  const View4d<const float>& g = conv.grad_output;
  const BackwardWeightTask t = backward_weight_task(conv, task);
  const BackwardWeightScratch scratch(conv.blocking, memory);
  const PackedInput input(conv, t.ics, false);
  list_weights(s, input, t.ics, scratch.first_pixels);
  const int64_t weights = s.kh * s.kw * t.ics;
  WeightPlanesTile tile;
  tile.x = scratch.x, tile.x_row = s.stride_h * input.row, tile.first = scratch.first_pixels;
  tile.sums = scratch.sums, tile.sums_channel = weights * kLanes;
  float* total = sum_bands(conv, t.split, scratch.sums, [&](const PixelBand& band, bool accumulate) {
    pack_input(conv, t, band, false, scratch.x);
    tile.grad = g.data + (t.group * s.group_oc() + t.oc) * g.c + band.n * g.n + band.row * g.h + band.col * g.w;
    tile.grad_channel = g.c, tile.grad_row = g.h;
    if (g.w != 1) {
      pack_grad_planes(g, tile.grad, band, t.ocs, scratch.grad_output);
      tile.grad = scratch.grad_output, tile.grad_channel = band.rows * band.cols, tile.grad_row = band.cols;
    }
    tile.rows = band.rows, tile.cols = band.cols;
    tile.accumulate = accumulate;
    weight_planes_band(tile, t.ocs, weights);
  });
  add_lanes(total, t.ocs * weights, total);
  store_planes_weight(conv, t, total);
}

}  // namespace
}  // namespace convkit
