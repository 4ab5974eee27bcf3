// Gradient of the input of a depthwise convolution, 3x3 and two apart in both directions. A pair of neighbouring pixels
// meets the first and the last tap of a row, or the middle one:
//
//   grad_input[2 m - pad] = w[0] grad[m] + w[2] grad[m - 1]      grad_input[2 m - pad + 1] = w[1] grad[m]
//
// so a tile loads each number of the gradient once for all of them. Rows go the same way. Other windows and strides run
// phase by phase (csrc/cpu/conv2d_phases.h).
#pragma once

#include "cpu/kernels/conv2d_depthwise.inl"

namespace convkit {
namespace {

constexpr int kDepthwisePairs = 4;  // of pixels: a register tile

template <typename T>
struct DepthwisePairs {
  const T* grad[2];        // a column before the first pair's, in each row that the pixels meet
  const float* weight[2];  // the three taps that meet that row
  int64_t rows;
  Range cols;    // of the columns of the gradient, the first one included: those inside it
  Range pixels;  // of the pixels: those inside the image
  int64_t grad_pixel, channels;
  T* output;
  int64_t output_pixel;
};

// Edge: not all columns or pixels exist.
template <typename T, bool Edge, int Pairs>
void depthwise_pairs(const DepthwisePairs<T>& pairs) {
  for_each_vector_of(pairs.channels, [p = pairs](int64_t c, auto lanes) {
    Vec sum[2 * Pairs] = {};
    for (int64_t row = 0; row < p.rows; ++row) {
      const T* g = p.grad[row] + c;
      const float* w = p.weight[row] + c;
      const Vec first = lanes.load(w), middle = lanes.load(w + p.channels), last = lanes.load(w + 2 * p.channels);
#pragma GCC unroll 5
      for (int col = 0; col <= Pairs; ++col) {
        if (Edge && (col < p.cols.begin || col >= p.cols.end)) continue;
        Vec value = lanes.load(g + col * p.grad_pixel);
        keep_in_register(value);  // or gcc loads it for each product
        if (col > 0) sum[2 * col - 2] += value * first;
        if (col > 0) sum[2 * col - 1] += value * middle;
        if (col < Pairs) sum[2 * col] += value * last;
      }
    }
#pragma GCC unroll 8
    for (int pixel = 0; pixel < 2 * Pairs; ++pixel)
      if (!Edge || (pixel >= p.pixels.begin && pixel < p.pixels.end))
        lanes.store(p.output + pixel * p.output_pixel + c, sum[pixel]);
  });
}

template <typename T, bool Edge>
constexpr DepthwiseFunction<DepthwisePairs<T>>* kDepthwisePairsOf[kDepthwisePairs] = {
    depthwise_pairs<T, Edge, 1>, depthwise_pairs<T, Edge, 2>, depthwise_pairs<T, Edge, 3>, depthwise_pairs<T, Edge, 4>};

// `conv` from the gradient to that of the input, channels_last; its padding is that of the forward convolution.
template <typename T>
void depthwise_by_twos(const Conv2dDepthwise<T>& conv, const DepthwiseTask& t, const float* weight) {
  const Conv2dShape& s = conv.shape;
  const View4d<const T>& g = conv.input;
  const View4d<T>& y = conv.output;
  DepthwisePairs<T> p;
  p.grad_pixel = g.w, p.channels = t.channels, p.output_pixel = y.w;
  const int64_t begin = s.pad_left / 2, end = ceil_div(s.ow + s.pad_left, 2);
  for (int64_t row = t.row; row < t.row + t.rows; ++row) {
    const T* rows[2];
    p.rows = 0;
    for (int64_t tap = (row + s.pad_top) % 2; tap < 3; tap += 2) {
      const int64_t grad_row = (row + s.pad_top - tap) / 2;
      if (row + s.pad_top < tap || grad_row >= s.ih) continue;
      rows[p.rows] = g.data + t.n * g.n + grad_row * g.h - g.w + t.channel;
      p.weight[p.rows++] = weight + tap * 3 * t.channels;
    }
    int64_t pairs = 0;
    for (int64_t pair = begin; pair < end; pair += pairs) {
      pairs = min(kDepthwisePairs, end - pair);
      const int64_t pixel = 2 * pair - s.pad_left;
      for (int64_t i = 0; i < p.rows; ++i) p.grad[i] = rows[i] + pair * g.w;
      p.output = y.data + t.n * y.n + row * y.h + pixel * y.w + t.channel;
      p.cols = inside(pair - 1, pairs + 1, s.iw), p.pixels = inside(pixel, 2 * pairs, s.ow);
      const bool edge = p.cols.end - p.cols.begin < pairs + 1 || p.pixels.end - p.pixels.begin < 2 * pairs;
      (edge ? kDepthwisePairsOf<T, true> : kDepthwisePairsOf<T, false>)[pairs - 1](p);
    }
  }
}

template <typename T>
void conv2d_depthwise_backward_input_by_twos(const Conv2dDepthwise<T>& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const DepthwiseTask t = depthwise_task(conv, task);
  if (conv.blocking.layout == DepthwiseLayout::kChannelsLast) {
    copy_depthwise_weight(conv, t, scratch);
    return depthwise_by_twos(conv, t, scratch);
  }
  const int64_t begin = clamp((t.row + s.pad_top - 1) / 2, 0, s.ih);  // or one row before what the band meets
  const Range rows{begin, clamp((t.row + t.rows - 1 + s.pad_top) / 2 + 1, begin, s.ih)};
  depthwise_packed(conv, t, rows, scratch, depthwise_by_twos<float>);
}

}  // namespace
}  // namespace convkit
