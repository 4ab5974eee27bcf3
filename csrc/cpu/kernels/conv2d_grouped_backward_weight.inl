// Gradient of the weight of a grouped convolution of few channels: as in forward, vectors of the packed input give
// every lane a channel of its group; each meets the gradients of the output pixels that its taps lead to. What four
// channels and up to three neighbouring taps sum up stays in registers over a band of pixels.
#pragma once

#include "cpu/kernels/conv2d_backward_weight.inl"
#include "cpu/kernels/conv2d_grouped.inl"

namespace convkit {
namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kGroupedWeightPixels = 7;  // beside 12 sums
#else
constexpr int kGroupedWeightPixels = 3;
#endif

// A band of pixels for some channels and neighbouring taps.
struct GroupedWeightTile {
  const float* input;  // under the first tap for the first pixel
  int64_t input_row, input_w, pixel;
  const float* grad;  // [rows, cols, lanes]
  int64_t rows, cols;
  float* sums;  // of the first channel and tap
  int64_t sum_channel, sum_tap;
};

// sum += channel K of the pixels with their gradients; Stride of their windows if there are three taps.
template <int Stride, GroupedInput Input, int K, int Taps, int Pixels>
inline void add_grouped_pixels(const GroupedWeightTile& tile, const float* x, const Vec (&grad)[Pixels],
                               Vec (&sum)[Taps]) {
  const int64_t col_stride = Taps == 1 ? tile.pixel : tile.input_w;
#pragma GCC unroll 32
  for (int col = 0; col < (Pixels - 1) * Stride + Taps; ++col) {
    const Vec value = grouped_channel<Input, K>(x + col * col_stride);
#pragma GCC unroll 8
    for (int pixel = 0; pixel < Pixels; ++pixel) {
      const int tap = col - pixel * Stride;
      if (tap >= 0 && tap < Taps) sum[tap] += value * grad[pixel];
    }
  }
}

template <int Stride, GroupedInput Input, int Channels, int Taps, int Pixels>
inline void add_grouped_channels(const GroupedWeightTile& tile, const float* x, const float* g,
                                 Vec (&sum)[Channels][Taps]) {
  Vec grad[Pixels];
#pragma GCC unroll 8
  for (int pixel = 0; pixel < Pixels; ++pixel) grad[pixel] = load(g + pixel * kLanes);
  add_grouped_pixels<Stride, Input, 0>(tile, x, grad, sum[0]);
  if constexpr (Channels == 4) {
    add_grouped_pixels<Stride, Input, 1>(tile, x, grad, sum[1]);
    add_grouped_pixels<Stride, Input, 2>(tile, x, grad, sum[2]);
    add_grouped_pixels<Stride, Input, 3>(tile, x, grad, sum[3]);
  }
}

template <int Stride, GroupedInput Input, int Channels, int Taps>
void grouped_weight_tile(const GroupedWeightTile& t) {
  const GroupedWeightTile tile = t;  // a copy, which no store can change
  constexpr int kPixels = kGroupedWeightPixels;
  Vec sum[Channels][Taps] = {};
  for (int64_t r = 0; r < tile.rows; ++r) {
    const float *x = tile.input + r * tile.input_row, *g = tile.grad + r * tile.cols * kLanes;
    int64_t col = 0;
    for (; col + kPixels <= tile.cols; col += kPixels)
      add_grouped_channels<Stride, Input, Channels, Taps, kPixels>(tile, x + col * tile.pixel, g + col * kLanes, sum);
    for (; col < tile.cols; ++col)
      add_grouped_channels<Stride, Input, Channels, Taps, 1>(tile, x + col * tile.pixel, g + col * kLanes, sum);
  }
#pragma GCC unroll 4
  for (int k = 0; k < Channels; ++k)
#pragma GCC unroll 4
    for (int tap = 0; tap < Taps; ++tap) {
      float* total = tile.sums + k * tile.sum_channel + tap * tile.sum_tap;
      store(total, load(total) + sum[k][tap]);
    }
}

// Three neighbouring taps of a stride of 1 or 2, or one, for all channels of a group.
template <GroupedInput Input, int Channels>
void grouped_weight_channels(GroupedWeightTile tile, int64_t ics, int64_t taps, int64_t stride) {
  const auto add = taps == 1     ? grouped_weight_tile<1, Input, Channels, 1>
                   : stride == 1 ? grouped_weight_tile<1, Input, Channels, 3>
                                 : grouped_weight_tile<2, Input, Channels, 3>;
  int64_t k = 0;
  for (; k + Channels <= ics; k += Channels) {
    add(tile);
    tile.input += kGroupedStep<Input, Channels>;
    tile.sums += Channels * tile.sum_channel;
  }
  if constexpr (Channels > 1 && Input != GroupedInput::kFours)
    if (k < ics) grouped_weight_channels<Input, 1>(tile, ics - k, taps, stride);
}

// sums [lanes a weight, in the order of the gradient's memory] += the products of a band.
void add_grouped_band(const Conv2dGroupedBackwardWeight& conv, const GroupedTask& t, const GroupedLanes& lanes,
                      float* scratch, float* sums) {
  const Conv2dShape& s = conv.shape;
  const View4d<const float>& g = conv.grad_output;
  const View4d<float>& w = conv.grad_weight;
  const Conv2dGroupedBlocking& b = conv.blocking;
  GroupedBand x = grouped_band(s, b, conv.input, t, lanes, scratch);
  x.pack_before((t.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1);
  float* grad = scratch + b.input_floats;
  const float* image = g.data + t.n * g.n + lanes.oc * g.c;
  pack_band(g, image, {t.row, t.rows, s.oh}, {t.col, t.cols, s.ow}, lanes.ocs, kLanes, grad);
  GroupedWeightTile tile;
  tile.grad = grad;
  tile.input_row = s.stride_h * x.row, tile.input_w = s.dilation_w * x.pixel, tile.pixel = s.stride_w * x.pixel;
  tile.rows = t.rows, tile.cols = t.cols;
  tile.sum_channel = w.c * kLanes, tile.sum_tap = w.w * kLanes;
  const bool three = s.dilation_w == 1 && s.stride_w <= 2;
  const auto add = b.input == GroupedInput::kScalars ? grouped_weight_channels<GroupedInput::kScalars, 4>
                   : b.input == GroupedInput::kFours ? grouped_weight_channels<GroupedInput::kFours, 4>
                                                     : grouped_weight_channels<GroupedInput::kVectors, 4>;
  for (int64_t i = 0; i < s.kh; ++i) {
    for (int64_t j = 0; j < s.kw;) {
      const int64_t taps = three && s.kw - j >= 3 ? 3 : 1;
      tile.input = x.data + i * s.dilation_h * x.row + j * tile.input_w;
      tile.sums = sums + (i * w.h + j * w.w) * kLanes;
      add(tile, s.group_ic(), taps, s.stride_w);
      j += taps;
    }
  }
}

void conv2d_grouped_backward_weight(const Conv2dGroupedBackwardWeight& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dGroupedBlocking& b = conv.blocking;
  const GroupedLanes lanes(s, b, task % b.vectors);
  const int64_t split = task / b.vectors, bands = s.n * b.row_bands * b.col_bands;
  const int64_t begin = bands * split / b.splits, end = bands * (split + 1) / b.splits;
  float *sums = scratch + b.input_floats + b.output_floats, *total = sums + b.weight_floats;
  fill_zero(total, b.weight_floats);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t position = (i - begin) % kBandsPerSum;
    if (position == 0) fill_zero(sums, b.weight_floats);
    GroupedTask t;
    t.col = i % b.col_bands * b.cols;
    t.row = i / b.col_bands % b.row_bands * b.rows;
    t.n = i / b.col_bands / b.row_bands;
    t.rows = min(b.rows, s.oh - t.row), t.cols = min(b.cols, s.ow - t.col);
    add_grouped_band(conv, t, lanes, scratch, sums);
    if (position == kBandsPerSum - 1 || i == end - 1) add_to(total, sums, b.weight_floats);
  }
  // A filter is a run of memory.
  const View4d<float>& w = conv.grad_weight;
  float* result = w.data + split * conv.split_stride + lanes.oc * w.n;
  const int64_t numel = s.group_ic() * s.kh * s.kw;
  for (int64_t first = 0; first < numel; first += kLanes) {
    const int64_t count = min(kLanes, numel - first);
    Vec block[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) block[i] = load(total + (first + min(i, count - 1)) * kLanes);
    transpose(block);
    for (int64_t oc = 0; oc < lanes.ocs; ++oc) store_first(result + oc * w.n + first, block[oc], count);
  }
}

}  // namespace
}  // namespace convkit
