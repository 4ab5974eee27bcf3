// The register tile of a depthwise convolution: a few pixels of an output row, channels in the lanes; of channels_last
// images, or of bands of others that were copied so.
#pragma once

#include "cpu/kernels/conv2d_depthwise.h"
#include "cpu/kernels/pack.inl"

namespace convkit {
namespace {

constexpr int kDepthwisePixels = 6;  // of a register tile

// The taps [begin, end) of one dimension that meet the image from output position `out` on.
Range taps_inside(int64_t out, int64_t stride, int64_t pad, int64_t dilation, int64_t kernel, int64_t size) {
  const int64_t first = out * stride - pad;
  const int64_t begin = clamp(ceil_div(max(-first, 0), dilation), 0, kernel);
  return {begin, clamp(ceil_div(max(size - first, 0), dilation), begin, kernel)};
}

// Neighbouring pixels of an output row and the taps that all of them have.
template <typename T>
struct DepthwiseTile {
  const T* input;            // under the first tap of the window, for the first pixel
  int64_t input_h, input_w;  // strides of a tap
  int64_t pixel;             // stride of an output pixel in the input
  Range taps_h, taps_w;
  Range cols;  // of the input columns of rows of three taps: those inside the image
  int64_t kw, channels;
};

template <typename T>
struct DepthwiseOutput : DepthwiseTile<T> {
  const float* weight;  // [kh, kw, channels]
  const float* bias;    // or null
  Activation activation;
  T* output;
  int64_t output_pixel;
};

template <typename T, int Pixels, typename Lanes>
inline void finish_pixels(const DepthwiseOutput<T>& p, int64_t c, Lanes lanes, Vec (&sum)[Pixels]) {
  const Vec bias = p.bias ? lanes.load(p.bias + c) : Vec{};
#pragma GCC unroll 6
  for (int pixel = 0; pixel < Pixels; ++pixel) {
    const Vec value = sum[pixel] + bias;
    lanes.store(p.output + pixel * p.output_pixel + c, activate(p.activation, value));
  }
}

template <typename Tile>
using DepthwiseFunction = void(const Tile&);

// The functions of a tile, one for each number of pixels up to kDepthwisePixels: for any taps, and for rows of three
// taps, [stride - 1][whether not all columns lie in the image].
template <typename Tile>
struct DepthwiseFunctions {
  using ByPixels = DepthwiseFunction<Tile>* const*;
  ByPixels any, three[2][2];
};

// Any taps.
template <typename T, int Pixels>
void depthwise_pixels(const DepthwiseOutput<T>& pixels) {
  for_each_vector_of(pixels.channels, [p = pixels](int64_t c, auto lanes) {
    Vec sum[Pixels] = {};
    for (int64_t i = p.taps_h.begin; i < p.taps_h.end; ++i) {
      for (int64_t j = p.taps_w.begin; j < p.taps_w.end; ++j) {
        const T* x = p.input + i * p.input_h + j * p.input_w + c;
        const Vec weight = lanes.load(p.weight + (i * p.kw + j) * p.channels + c);
#pragma GCC unroll 6
        for (int pixel = 0; pixel < Pixels; ++pixel) sum[pixel] += lanes.load(x + pixel * p.pixel) * weight;
      }
    }
    finish_pixels(p, c, lanes, sum);
  });
}

// Rows of three neighbouring taps: each vector of the input is loaded once. Edge: not all columns lie in the image.
template <typename T, int Stride, bool Edge, int Pixels>
void depthwise_pixels_3(const DepthwiseOutput<T>& pixels) {
  // A copy, which no store can change: its members stay in registers.
  for_each_vector_of(pixels.channels, [p = pixels](int64_t c, auto lanes) {
    Vec sum[Pixels] = {};
    for (int64_t i = p.taps_h.begin; i < p.taps_h.end; ++i) {
      const T* x = p.input + i * p.input_h + c;
      const float* w = p.weight + i * 3 * p.channels + c;
      const Vec weight[3] = {lanes.load(w), lanes.load(w + p.channels), lanes.load(w + 2 * p.channels)};
#pragma GCC unroll 16
      for (int col = 0; col < (Pixels - 1) * Stride + 3; ++col) {
        if (Edge && (col < p.cols.begin || col >= p.cols.end)) continue;
        Vec value = lanes.load(x + col * p.input_w);
        keep_in_register(value);  // or gcc loads it for each product
#pragma GCC unroll 6
        for (int pixel = 0; pixel < Pixels; ++pixel) {
          const int tap = col - pixel * Stride;
          if (tap >= 0 && tap < 3) sum[pixel] += value * weight[tap];
        }
      }
    }
    finish_pixels(p, c, lanes, sum);
  });
}

template <typename T>
constexpr DepthwiseFunction<DepthwiseOutput<T>>* kDepthwisePixelsAny[kDepthwisePixels] = {
    depthwise_pixels<T, 1>, depthwise_pixels<T, 2>, depthwise_pixels<T, 3>,
    depthwise_pixels<T, 4>, depthwise_pixels<T, 5>, depthwise_pixels<T, 6>};
template <typename T, int Stride, bool Edge>
constexpr DepthwiseFunction<DepthwiseOutput<T>>* kDepthwisePixels3[kDepthwisePixels] = {
    depthwise_pixels_3<T, Stride, Edge, 1>, depthwise_pixels_3<T, Stride, Edge, 2>,
    depthwise_pixels_3<T, Stride, Edge, 3>, depthwise_pixels_3<T, Stride, Edge, 4>,
    depthwise_pixels_3<T, Stride, Edge, 5>, depthwise_pixels_3<T, Stride, Edge, 6>};
template <typename T>
constexpr DepthwiseFunctions<DepthwiseOutput<T>> kDepthwisePixelsOf = {
    kDepthwisePixelsAny<T>,
    {{kDepthwisePixels3<T, 1, false>, kDepthwisePixels3<T, 1, true>},
     {kDepthwisePixels3<T, 2, false>, kDepthwisePixels3<T, 2, true>}}};

struct DepthwiseTask {
  int64_t n, row, rows, channel, channels;
  bool far = false;  // whether the input is too large to be in cache
};

// Calls for what the next row of output reads and this one does not, under the pixels of a tile: strips are too short
// for a hardware prefetcher. (Always inlined: gcc drops a call of a function that only prefetches.)
template <typename T>
[[gnu::always_inline]] inline void prefetch_rows(const Conv2dShape& s, const View4d<const T>& x, const T* row,
                                                 int64_t cols, int64_t channels) {
  constexpr int64_t kCacheLine = 64 / sizeof(T);
  for (int64_t r = 0; r < s.stride_h; ++r, row += x.h)
    for (int64_t col = 0; col < cols; ++col)
      for (int64_t c = 0; c < channels; c += kCacheLine) __builtin_prefetch(row + col * x.w + c);
}

// Runs the tiles of a task, each after place(tile, row, column): strip after strip of columns whose input stays in L1
// for the next row.
template <typename T, typename Tile, typename Place>
void run_depthwise_tiles(const Conv2dShape& s, const View4d<const T>& x, const DepthwiseTask& t,
                         const DepthwiseFunctions<Tile>& functions, Tile tile, Place place) {
  constexpr int64_t kStripFloats = 8192;  // 6,144 to 12,288 take the same time
  const int64_t window = (s.kw - 1) * s.dilation_w + 1;
  const int64_t fits = kStripFloats / (s.kh * s.stride_w * t.channels);
  const int64_t width = max(fits / kDepthwisePixels, 1) * kDepthwisePixels;
  const bool three = s.kw == 3 && s.dilation_w == 1 && s.stride_w <= 2;
  tile.input_h = s.dilation_h * x.h, tile.input_w = s.dilation_w * x.w, tile.pixel = s.stride_w * x.w;
  tile.kw = s.kw, tile.channels = t.channels;
  for (int64_t begin = 0; begin < s.ow; begin += width)
    for (int64_t row = t.row; row < t.row + t.rows; ++row) {
      const T* input = x.data + t.n * x.n + (row * s.stride_h - s.pad_top) * x.h - s.pad_left * x.w + t.channel;
      tile.taps_h = taps_inside(row, s.stride_h, s.pad_top, s.dilation_h, s.kh, s.ih);
      int64_t pixels = 0;
      for (int64_t col = begin, end = min(begin + width, s.ow); col < end; col += pixels) {
        const int64_t first = col * s.stride_w - s.pad_left;
        pixels = ceil_div(end - col, ceil_div(end - col, kDepthwisePixels));  // tiles of nearly the same width
        const int64_t cols = (pixels - 1) * s.stride_w + window;
        const bool edge = first < 0 || first + cols > s.iw;
        if (edge && !three) pixels = first < 0 ? 1 : clamp((s.iw - first - window) / s.stride_w + 1, 1, pixels);
        tile.input = input + col * tile.pixel;
        tile.taps_w = taps_inside(col, s.stride_w, s.pad_left, s.dilation_w, s.kw, s.iw);
        tile.cols = inside(first, cols, s.iw);
        place(tile, row, col);
        if (t.far)
          prefetch_rows(s, x, tile.input + ((s.kh - 1) * s.dilation_h + 1) * x.h, pixels * s.stride_w, t.channels);
        (three ? functions.three[s.stride_w - 1][edge] : functions.any)[pixels - 1](tile);
      }
    }
}

}  // namespace
}  // namespace convkit
