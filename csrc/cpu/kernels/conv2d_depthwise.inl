// Depthwise convolution: every channel has a window of its own, so there is nothing to sum over but its taps, and the
// work is as much loading as multiplying.
//
// channels_last puts channels in the lanes and reads the input where it lies; any other layout is turned so, a vector
// of channels at a time. Fewer channels than lanes go channel by channel: the band of a plane is packed with its
// columns sorted by stride phase, so that the pixels that a tap meets are contiguous, and output columns are in the
// lanes. All add up the taps in row-major order, then the bias.
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

// ---- channels_last

// Neighbouring pixels of an output row and the taps that all of them have.
struct DepthwiseTile {
  const float* input;        // under the first tap of the window, for the first pixel
  int64_t input_h, input_w;  // strides of a tap
  int64_t pixel;             // stride of an output pixel in the input
  Range taps_h, taps_w;
  Range cols;  // of the input columns of rows of three taps: those inside the image
  int64_t kw, channels;
};

struct DepthwiseOutput : DepthwiseTile {
  const float* weight;  // [kh, kw, channels]
  const float* bias;    // or null
  Activation activation;
  float* output;
  int64_t output_pixel;
};

template <int Pixels, typename Lanes>
inline void finish_pixels(const DepthwiseOutput& p, int64_t c, Lanes lanes, Vec (&sum)[Pixels]) {
  const Vec bias = p.bias ? lanes.load(p.bias + c) : Vec{};
#pragma GCC unroll 6
  for (int pixel = 0; pixel < Pixels; ++pixel) {
    const Vec value = sum[pixel] + bias;
    lanes.store(p.output + pixel * p.output_pixel + c, activate(p.activation, value));
  }
}

// One for each number of pixels, up to kDepthwisePixels.
template <typename Tile>
using DepthwiseFunction = void(const Tile&);

// Any taps.
template <int Pixels>
void depthwise_pixels(const DepthwiseOutput& pixels) {
  for_each_vector_of(pixels.channels, [p = pixels](int64_t c, auto lanes) {
    Vec sum[Pixels] = {};
    for (int64_t i = p.taps_h.begin; i < p.taps_h.end; ++i) {
      for (int64_t j = p.taps_w.begin; j < p.taps_w.end; ++j) {
        const float* x = p.input + i * p.input_h + j * p.input_w + c;
        const Vec weight = lanes.load(p.weight + (i * p.kw + j) * p.channels + c);
#pragma GCC unroll 6
        for (int pixel = 0; pixel < Pixels; ++pixel) sum[pixel] += lanes.load(x + pixel * p.pixel) * weight;
      }
    }
    finish_pixels(p, c, lanes, sum);
  });
}

// Rows of three neighbouring taps: each vector of the input is loaded once. Edge: not all columns lie in the image.
template <int Stride, bool Edge, int Pixels>
void depthwise_pixels_3(const DepthwiseOutput& pixels) {
  // A copy, which no store can change: its members stay in registers.
  for_each_vector_of(pixels.channels, [p = pixels](int64_t c, auto lanes) {
    Vec sum[Pixels] = {};
    for (int64_t i = p.taps_h.begin; i < p.taps_h.end; ++i) {
      const float* x = p.input + i * p.input_h + c;
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

// One for each number of pixels, up to kDepthwisePixels.
constexpr DepthwiseFunction<DepthwiseOutput>* kDepthwisePixelsAny[kDepthwisePixels] = {
    depthwise_pixels<1>, depthwise_pixels<2>, depthwise_pixels<3>,
    depthwise_pixels<4>, depthwise_pixels<5>, depthwise_pixels<6>};
template <int Stride, bool Edge>
constexpr DepthwiseFunction<DepthwiseOutput>* kDepthwisePixels3[kDepthwisePixels] = {
    depthwise_pixels_3<Stride, Edge, 1>, depthwise_pixels_3<Stride, Edge, 2>, depthwise_pixels_3<Stride, Edge, 3>,
    depthwise_pixels_3<Stride, Edge, 4>, depthwise_pixels_3<Stride, Edge, 5>, depthwise_pixels_3<Stride, Edge, 6>};

struct DepthwiseTask {
  int64_t n, row, rows, channel, channels;
};

// Rows of three taps, which have functions of their own.
inline bool has_rows_of_three(const Conv2dShape& s) { return s.kw == 3 && s.dilation_w == 1 && s.stride_w <= 2; }

// body(tile, row, column, pixels, whether not all of its columns lie in the image) for the tiles of a task: strip after
// strip of columns whose input stays in L1 for the next row.
template <typename Tile, typename Body>
void for_each_depthwise_tile(const Conv2dShape& s, const View4d<const float>& x, const DepthwiseTask& t, Tile tile,
                             Body body) {
  constexpr int64_t kStripFloats = 8192;
  const int64_t window = (s.kw - 1) * s.dilation_w + 1;
  const int64_t fits = kStripFloats / (s.kh * s.stride_w * t.channels);
  const int64_t width = max(fits / kDepthwisePixels, 1) * kDepthwisePixels;
  const bool three = has_rows_of_three(s);
  tile.input_h = s.dilation_h * x.h, tile.input_w = s.dilation_w * x.w, tile.pixel = s.stride_w * x.w;
  tile.kw = s.kw, tile.channels = t.channels;
  for (int64_t begin = 0; begin < s.ow; begin += width)
    for (int64_t row = t.row; row < t.row + t.rows; ++row) {
      const float* input = x.data + t.n * x.n + (row * s.stride_h - s.pad_top) * x.h - s.pad_left * x.w + t.channel;
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
        body(tile, row, col, pixels, edge);
      }
    }
}

// -> weight [kh, kw, channels]
void copy_depthwise_weight(const Conv2dDepthwise& conv, const DepthwiseTask& t, float* weight) {
  const Conv2dShape& s = conv.shape;
  const View4d<const float>& w = conv.weight;
  // Taps that lie side by side, forwards or backwards, are copied together.
  const int64_t taps = w.h == s.kw * w.w ? s.kh * s.kw : s.kw, step = w.w < 0 ? -1 : 1, last = step < 0 ? taps - 1 : 0;
  for (int64_t tap = 0; tap < s.kh * s.kw; tap += taps)
    strided_copy(w.data + t.channel * w.n + tap / s.kw * w.h + last * w.w, step * w.w, w.n,
                 weight + (tap + last) * t.channels, step * t.channels, taps, t.channels);
}

void depthwise_channels_last(const Conv2dDepthwise& conv, const DepthwiseTask& t, float* weight) {
  const Conv2dShape& s = conv.shape;
  const View4d<float>& y = conv.output;
  copy_depthwise_weight(conv, t, weight);
  const auto& inner = !has_rows_of_three(s) ? kDepthwisePixelsAny
                      : s.stride_w == 1     ? kDepthwisePixels3<1, false>
                                            : kDepthwisePixels3<2, false>;
  const auto& edges = !has_rows_of_three(s) ? kDepthwisePixelsAny
                      : s.stride_w == 1     ? kDepthwisePixels3<1, true>
                                            : kDepthwisePixels3<2, true>;
  DepthwiseOutput p;
  p.weight = weight;
  p.bias = conv.bias ? conv.bias + t.channel : nullptr;
  p.activation = conv.activation;
  p.output_pixel = y.w;
  float* const output = y.data + t.n * y.n + t.channel;
  for_each_depthwise_tile(s, conv.input, t, p,
                          [&](DepthwiseOutput& tile, int64_t row, int64_t col, int64_t pixels, bool edge) {
                            tile.output = output + row * y.h + col * y.w;
                            (edge ? edges : inner)[pixels - 1](tile);
                          });
}

// The rows of the input that a band of the output meets.
Range depthwise_rows(const Conv2dShape& s, int64_t row, int64_t rows) {
  const int64_t top = row * s.stride_h - s.pad_top, last = (rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h;
  const int64_t begin = clamp(top, 0, s.ih);
  return {begin, clamp(top + last + 1, begin, s.ih)};
}

// Rows of some channels of an image of any layout -> [rows, cols, kLanes]
void pack_channels(const View4d<const float>& x, const float* image, Range rows, int64_t cols, int64_t channels,
                   float* band) {
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
void depthwise_packed(const Conv2dDepthwise& conv, const DepthwiseTask& t, Range rows, float* scratch,
                      void (*run)(const Conv2dDepthwise&, const DepthwiseTask&, float*)) {
  const Conv2dShape& s = conv.shape;
  const Conv2dDepthwiseBlocking& b = conv.blocking;
  const View4d<const float>& x = conv.input;
  const View4d<float>& y = conv.output;
  float* pixels = scratch + b.plane_floats;
  pack_channels(x, x.data + t.n * x.n + t.channel * x.c, rows, s.iw, t.channels, scratch);
  Conv2dDepthwise own = conv;
  own.input = packed_image<const float>(scratch, rows.begin, s.iw);
  own.weight.data += t.channel * conv.weight.n;
  if (conv.bias) own.bias += t.channel;
  own.output = packed_image(pixels, t.row, s.ow);
  run(own, {0, t.row, t.rows, 0, t.channels}, pixels + b.row_floats);

  float* origin = y.data + t.n * y.n + t.channel * y.c + t.row * y.h;
  const int64_t stored = y.h == s.ow * y.w ? t.rows : 1;
  store_pixels(pixels, s.ow * kLanes, kLanes, y, origin, t.rows / stored, stored * s.ow, t.channels);
}

// ---- planes

// Where tap [kh, kw] lies in a packed band, from the place of an output pixel on.
void depthwise_offsets(const Conv2dShape& s, const Conv2dDepthwiseBlocking& b, int64_t* offsets) {
  for (int64_t i = 0; i < s.kh; ++i)
    for (int64_t j = 0; j < s.kw; ++j) {
      const int64_t col = j * s.dilation_w;
      *offsets++ = (i * s.dilation_h * s.stride_w + col % s.stride_w) * b.band_w + col / s.stride_w;
    }
}

// The planes of all channels have their zeros in the same places: they are written once for all.
struct DepthwisePlane {
  PhasedBand band;
  float* data;

  DepthwisePlane(const Conv2dShape& s, const Conv2dDepthwiseBlocking& b, int64_t row, int64_t rows, float* data)
      : data(data) {
    const int64_t band_h = (rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
    const int64_t floats = band_h * s.stride_w * b.band_w;
    band = {{row * s.stride_h - s.pad_top, band_h, s.ih}, -s.pad_left, s.iw, s.stride_w, b.band_w, floats};
    fill_zero(data, floats);
  }
  // -> [band_h, stride_w, band_w]
  void pack(const View4d<const float>& x, int64_t n, int64_t channel) const {
    pack_phases(x, x.data + n * x.n + channel * x.c, band, 1, data);
  }
};

// Output columns [0, columns) of one row, Vecs vectors at a time; Taps of them, or any number if it is 0.
template <int Taps, int Vecs>
inline int64_t depthwise_columns(const float* plane, const float* weight, const int64_t* offsets, int64_t taps,
                                 float bias, Activation activation, int64_t col, int64_t columns, float* row) {
  for (; col + Vecs * kLanes <= columns; col += Vecs * kLanes) {
    Vec sum[Vecs] = {};
#pragma GCC unroll 9
    for (int64_t tap = 0; tap < (Taps ? Taps : taps); ++tap) {
      const Vec w = broadcast(weight[tap]);
#pragma GCC unroll 4
      for (int v = 0; v < Vecs; ++v) sum[v] += load(plane + offsets[tap] + col + v * kLanes) * w;
    }
#pragma GCC unroll 4
    for (int v = 0; v < Vecs; ++v) {
      const Vec value = sum[v] + broadcast(bias);
      store(row + col + v * kLanes, activate(activation, value));
    }
  }
  return col;
}

template <int Taps>
void depthwise_row(const float* plane, const float* weight, const int64_t* offsets, int64_t taps, float bias,
                   Activation activation, int64_t columns, float* row) {
  const int64_t col = depthwise_columns<Taps, 4>(plane, weight, offsets, taps, bias, activation, 0, columns, row);
  depthwise_columns<Taps, 1>(plane, weight, offsets, taps, bias, activation, col, columns, row);
}

void depthwise_planes(const Conv2dDepthwise& conv, const DepthwiseTask& t, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dDepthwiseBlocking& b = conv.blocking;
  const View4d<const float>& w = conv.weight;
  const View4d<float>& y = conv.output;
  const int64_t taps = s.kh * s.kw;
  float *row = scratch + b.plane_floats, *weight = row + b.row_floats;
  int64_t* offsets = reinterpret_cast<int64_t*>(weight + b.weight_floats);
  depthwise_offsets(s, b, offsets);
  const auto compute = taps == 9 ? depthwise_row<9> : depthwise_row<0>;
  const DepthwisePlane plane(s, b, t.row, t.rows, scratch);
  for (int64_t c = t.channel; c < t.channel + t.channels; ++c) {
    plane.pack(conv.input, t.n, c);
    for (int64_t tap = 0; tap < taps; ++tap) weight[tap] = w.data[c * w.n + tap / s.kw * w.h + tap % s.kw * w.w];
    for (int64_t r = 0; r < t.rows; ++r) {
      float* output = y.data + t.n * y.n + c * y.c + (t.row + r) * y.h;
      const bool in_place = y.w == 1 && s.ow == b.row;
      compute(plane.data + r * s.stride_h * s.stride_w * b.band_w, weight, offsets, taps, conv.bias ? conv.bias[c] : 0,
              conv.activation, b.row, in_place ? output : row);
      if (!in_place)
        for (int64_t i = 0; i < s.ow; ++i) output[i * y.w] = row[i];
    }
  }
}

DepthwiseTask depthwise_task(const Conv2dDepthwise& conv, int64_t task) {
  const Conv2dDepthwiseBlocking& b = conv.blocking;
  DepthwiseTask t;
  t.channel = task % b.channel_chunks * b.channels;
  task /= b.channel_chunks;
  t.row = task % b.row_bands * b.rows;
  t.n = task / b.row_bands;
  t.rows = min(b.rows, conv.shape.oh - t.row);
  t.channels = min(b.channels, conv.shape.oc - t.channel);
  return t;
}

void conv2d_depthwise_forward(const Conv2dDepthwise& conv, int64_t task, float* scratch) {
  const DepthwiseTask t = depthwise_task(conv, task);
  if (conv.blocking.channels_last)
    depthwise_channels_last(conv, t, scratch);
  else if (conv.blocking.packed)
    depthwise_packed(conv, t, depthwise_rows(conv.shape, t.row, t.rows), scratch, depthwise_channels_last);
  else
    depthwise_planes(conv, t, scratch);
}

}  // namespace
}  // namespace convkit
