// Depthwise convolution: every channel has a window of its own, so there is nothing to sum over but its taps, and the
// work is as much loading as multiplying.
//
// channels_last is read where it lies; any other layout is turned so, a vector of channels at a time; fewer channels
// than lanes go plane by plane. All add up the taps in row-major order, then the bias.
#pragma once

#include "cpu/kernels/conv2d_depthwise_planes.inl"
#include "cpu/kernels/conv2d_depthwise_tile.inl"

namespace convkit {
namespace {

// -> weight [kh, kw, channels]
template <typename T>
void copy_depthwise_weight(const Conv2dDepthwise<T>& conv, const DepthwiseTask& t, float* weight) {
  const Conv2dShape& s = conv.shape;
  const View4d<const T>& w = conv.weight;
  // Taps that lie side by side, forwards or backwards, are copied together.
  const int64_t taps = w.h == s.kw * w.w ? s.kh * s.kw : s.kw, step = w.w < 0 ? -1 : 1, last = step < 0 ? taps - 1 : 0;
  for (int64_t tap = 0; tap < s.kh * s.kw; tap += taps)
    strided_copy(w.data + t.channel * w.n + tap / s.kw * w.h + last * w.w, step * w.w, w.n,
                 weight + (tap + last) * t.channels, step * t.channels, taps, t.channels);
}

template <typename T>
void depthwise_channels_last(const Conv2dDepthwise<T>& conv, const DepthwiseTask& t, const float* weight) {
  const Conv2dShape& s = conv.shape;
  const View4d<T>& y = conv.output;
  DepthwiseOutput<T> p;
  p.weight = weight;
  p.bias = conv.bias ? conv.bias + t.channel : nullptr;
  p.activation = conv.activation;
  p.output_pixel = y.w;
  T* const output = y.data + t.n * y.n + t.channel;
  run_depthwise_tiles(
      s, conv.input, t, kDepthwisePixelsOf<T>, p,
      [&](DepthwiseOutput<T>& tile, int64_t row, int64_t col) { tile.output = output + row * y.h + col * y.w; });
}

// The rows of the input that a band of the output meets.
Range depthwise_rows(const Conv2dShape& s, int64_t row, int64_t rows) {
  const int64_t top = row * s.stride_h - s.pad_top, last = (rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h;
  const int64_t begin = clamp(top, 0, s.ih);
  return {begin, clamp(top + last + 1, begin, s.ih)};
}

// Rows of some channels of an image of any layout -> [rows, cols, kLanes]
template <typename T>
void pack_channels(const View4d<const T>& x, const T* image, Range rows, int64_t cols, int64_t channels, float* band) {
  const int64_t copied = x.h == cols * x.w ? rows.end - rows.begin : 1;  // at once
  for (int64_t row = rows.begin; row < rows.end; row += copied, band += copied * cols * kLanes)
    strided_copy(image + row * x.h, x.w, x.c, band, kLanes, copied * cols, channels);
}

// The channels_last image of which pack_channels packed the rows from `row` on.
template <typename T>
View4d<T> packed_image(T* band, int64_t row, int64_t cols) {
  return {band - row * cols * kLanes, 0, 1, cols * kLanes, kLanes};
}

// Any other layout: the rows of a vector of channels are copied as channels_last, and so the result back.
template <typename T>
void depthwise_packed(const Conv2dDepthwise<T>& conv, const DepthwiseTask& t, Range rows, float* scratch,
                      void (*run)(const Conv2dDepthwise<float>&, const DepthwiseTask&, const float*)) {
  const Conv2dShape& s = conv.shape;
  const Conv2dDepthwiseBlocking& b = conv.blocking;
  const View4d<const T>& x = conv.input;
  const View4d<T>& y = conv.output;
  float *pixels = scratch + b.plane_floats, *weight = pixels + b.row_floats;
  pack_channels(x, x.data + t.n * x.n + t.channel * x.c, rows, s.iw, t.channels, scratch);
  copy_depthwise_weight(conv, t, weight);
  const float* bias = conv.bias ? conv.bias + t.channel : nullptr;
  run({s,
       b,
       packed_image<const float>(scratch, rows.begin, s.iw),
       {},
       bias,
       packed_image(pixels, t.row, s.ow),
       conv.activation},
      {0, t.row, t.rows, 0, t.channels}, weight);

  T* origin = y.data + t.n * y.n + t.channel * y.c + t.row * y.h;
  const int64_t stored = y.h == s.ow * y.w ? t.rows : 1;
  store_pixels(pixels, s.ow * kLanes, kLanes, y, origin, t.rows / stored, stored * s.ow, t.channels);
}

// An image too large for a core's share of the caches: 128 channels at 147x147 take 0.60 ms instead of 0.70 when their
// next rows are called for ahead, 0.9 instead of 1.4 out of memory; 256 at 74x74, which L3 holds, would take 0.28
// instead of 0.25 (one thread of an AMD Zen 5).
constexpr int64_t kFarBytes = 8 << 20;

template <typename T>
DepthwiseTask depthwise_task(const Conv2dDepthwise<T>& conv, int64_t task) {
  const Conv2dDepthwiseBlocking& b = conv.blocking;
  DepthwiseTask t;
  t.channel = task % b.channel_chunks * b.channels;
  task /= b.channel_chunks;
  t.row = task % b.row_bands * b.rows;
  t.n = task / b.row_bands;
  t.rows = min(b.rows, conv.shape.oh - t.row);
  t.channels = min(b.channels, conv.shape.oc - t.channel);
  t.far = b.layout == DepthwiseLayout::kChannelsLast &&
          conv.shape.oc * conv.shape.ih * conv.shape.iw * static_cast<int64_t>(sizeof(T)) >= kFarBytes;
  return t;
}

template <typename T>
void conv2d_depthwise_forward(const Conv2dDepthwise<T>& conv, int64_t task, float* scratch) {
  const DepthwiseTask t = depthwise_task(conv, task);
  if (conv.blocking.layout == DepthwiseLayout::kChannelsLast) {
    copy_depthwise_weight(conv, t, scratch);
    depthwise_channels_last(conv, t, scratch);
  } else if (conv.blocking.layout == DepthwiseLayout::kPacked) {
    depthwise_packed(conv, t, depthwise_rows(conv.shape, t.row, t.rows), scratch, depthwise_channels_last<float>);
  } else if constexpr (std::is_same_v<T, float>) {
    depthwise_planes(conv, t, scratch);
  }
}

}  // namespace
}  // namespace convkit
