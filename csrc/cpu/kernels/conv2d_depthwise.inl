// Depthwise convolution: every channel has a window of its own, so there is nothing to sum over but its taps, and the
// work is as much loading as multiplying.
//
// channels_last puts channels in the lanes and reads the input where it lies; any other layout is turned so, a vector
// of channels at a time. Fewer channels than lanes, and the gradient of the weight, go channel by channel: the band of
// a plane is packed with its columns sorted by stride phase, so that the pixels that a tap meets are contiguous, and
// output columns are in the lanes. All add up the taps in row-major order, then the bias.
#pragma once

#include "cpu/kernels/conv2d_depthwise.h"
#include "cpu/kernels/pack.inl"

namespace convkit {
namespace {

constexpr int kDepthwisePixels = 6;  // of a register tile
constexpr int kDepthwiseTaps = 9;    // whose gradients are summed in registers together: those of a 3x3 window

// The taps [begin, end) of one dimension that meet the image from output position `out` on.
Range taps_inside(int64_t out, int64_t stride, int64_t pad, int64_t dilation, int64_t kernel, int64_t size) {
  const int64_t first = out * stride - pad;
  const int64_t begin = clamp(ceil_div(max(-first, 0), dilation), 0, kernel);
  return {begin, clamp(ceil_div(max(size - first, 0), dilation), begin, kernel)};
}

// The output positions [begin, end) of `count` at which one tap meets the image.
Range outputs_inside(int64_t tap_offset, int64_t stride, int64_t size, int64_t count) {
  const int64_t begin = clamp(ceil_div(max(-tap_offset, 0), stride), 0, count);
  return {begin, clamp(ceil_div(max(size - tap_offset, 0), stride), begin, count)};
}

// ---- channels_last

// Neighbouring pixels of an output row and the taps that all of them have.
struct DepthwisePixels {
  const float* input;        // under the first tap of the window, for the first pixel
  int64_t input_h, input_w;  // strides of a tap
  int64_t pixel;             // stride of an output pixel in the input
  Range taps_h, taps_w;
  Range cols;           // of the input columns of rows of three taps: those inside the image
  const float* weight;  // [kh, kw, channels]
  int64_t kw, channels;
  const float* bias;  // or null
  Activation activation;
  float* output;
  int64_t output_pixel;
};

template <int Pixels, typename Lanes>
inline void finish_pixels(const DepthwisePixels& p, int64_t c, Lanes lanes, Vec (&sum)[Pixels]) {
  const Vec bias = p.bias ? lanes.load(p.bias + c) : Vec{};
#pragma GCC unroll 6
  for (int pixel = 0; pixel < Pixels; ++pixel) {
    const Vec value = sum[pixel] + bias;
    lanes.store(p.output + pixel * p.output_pixel + c, activate(p.activation, value));
  }
}

// Any taps.
template <int Pixels>
void depthwise_pixels(const DepthwisePixels& pixels) {
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
void depthwise_pixels_3(const DepthwisePixels& pixels) {
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

typedef void DepthwisePixelsFunction(const DepthwisePixels&);

// One for each number of pixels, up to kDepthwisePixels.
constexpr DepthwisePixelsFunction* kDepthwisePixelsAny[kDepthwisePixels] = {depthwise_pixels<1>, depthwise_pixels<2>,
                                                                            depthwise_pixels<3>, depthwise_pixels<4>,
                                                                            depthwise_pixels<5>, depthwise_pixels<6>};
template <int Stride, bool Edge>
constexpr DepthwisePixelsFunction* kDepthwisePixels3[kDepthwisePixels] = {
    depthwise_pixels_3<Stride, Edge, 1>, depthwise_pixels_3<Stride, Edge, 2>, depthwise_pixels_3<Stride, Edge, 3>,
    depthwise_pixels_3<Stride, Edge, 4>, depthwise_pixels_3<Stride, Edge, 5>, depthwise_pixels_3<Stride, Edge, 6>};

struct DepthwiseTask {
  int64_t n, row, rows, channel, channels;
};

// Output columns [begin, end) of a row.
struct DepthwiseStrip {
  int64_t row, begin, end;
};

void depthwise_strip(const Conv2dDepthwise& conv, const DepthwiseTask& t, const DepthwiseStrip& strip,
                     const float* weight) {
  const Conv2dShape& s = conv.shape;
  const View4d<const float>& x = conv.input;
  const View4d<float>& y = conv.output;
  const int64_t window = (s.kw - 1) * s.dilation_w + 1;
  const bool three = s.kw == 3 && s.dilation_w == 1 && s.stride_w <= 2;
  DepthwisePixels p;
  p.input_h = s.dilation_h * x.h, p.input_w = s.dilation_w * x.w, p.pixel = s.stride_w * x.w;
  p.taps_h = taps_inside(strip.row, s.stride_h, s.pad_top, s.dilation_h, s.kh, s.ih);
  p.weight = weight, p.kw = s.kw, p.channels = t.channels;
  p.bias = conv.bias ? conv.bias + t.channel : nullptr;
  p.activation = conv.activation;
  p.output_pixel = y.w;
  const float* input = x.data + t.n * x.n + (strip.row * s.stride_h - s.pad_top) * x.h - s.pad_left * x.w + t.channel;
  float* output = y.data + t.n * y.n + strip.row * y.h + t.channel;
  for (int64_t col = strip.begin; col < strip.end;) {
    const int64_t left = strip.end - col, first = col * s.stride_w - s.pad_left;
    int64_t pixels = ceil_div(left, ceil_div(left, kDepthwisePixels));  // tiles of nearly the same width
    const int64_t cols = (pixels - 1) * s.stride_w + window;
    const bool edge = first < 0 || first + cols > s.iw;
    if (edge && !three) pixels = first < 0 ? 1 : clamp((s.iw - first - window) / s.stride_w + 1, 1, pixels);
    p.input = input + col * p.pixel;
    p.output = output + col * y.w;
    p.taps_w = taps_inside(col, s.stride_w, s.pad_left, s.dilation_w, s.kw, s.iw);
    p.cols = inside(first, cols, s.iw);
    const auto& functions = !three            ? kDepthwisePixelsAny
                            : s.stride_w == 1 ? (edge ? kDepthwisePixels3<1, true> : kDepthwisePixels3<1, false>)
                                              : (edge ? kDepthwisePixels3<2, true> : kDepthwisePixels3<2, false>);
    functions[pixels - 1](p);
    col += pixels;
  }
}

void depthwise_channels_last(const Conv2dDepthwise& conv, const DepthwiseTask& t, float* weight) {
  const Conv2dShape& s = conv.shape;
  const View4d<const float>& w = conv.weight;
  // Taps that lie side by side, forwards or backwards, are copied together.
  const int64_t taps = w.h == s.kw * w.w ? s.kh * s.kw : s.kw, step = w.w < 0 ? -1 : 1, last = step < 0 ? taps - 1 : 0;
  for (int64_t tap = 0; tap < s.kh * s.kw; tap += taps)
    strided_copy(w.data + t.channel * w.n + tap / s.kw * w.h + last * w.w, step * w.w, w.n,
                 weight + (tap + last) * t.channels, step * t.channels, taps, t.channels);
  // Strips of columns whose input stays in L1 for the next row.
  constexpr int64_t kStripFloats = 8192;
  const int64_t pixels = kStripFloats / (s.kh * s.stride_w * t.channels);
  const int64_t width = max(pixels / kDepthwisePixels, 1) * kDepthwisePixels;
  for (int64_t begin = 0; begin < s.ow; begin += width)
    for (int64_t row = t.row; row < t.row + t.rows; ++row)
      depthwise_strip(conv, t, {row, begin, min(begin + width, s.ow)}, weight);
}

// Any other layout: a band of a vector of channels is copied as channels_last, and so the result back.
void depthwise_packed(const Conv2dDepthwise& conv, const DepthwiseTask& t, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dDepthwiseBlocking& b = conv.blocking;
  const View4d<const float>& x = conv.input;
  const View4d<float>& y = conv.output;
  float* pixels = scratch + b.plane_floats;
  const int64_t top = t.row * s.stride_h - s.pad_top, last = (t.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h;
  const int64_t begin = clamp(top, 0, s.ih), rows = clamp(top + last + 1, begin, s.ih) - begin;
  const bool dense = x.h == s.iw * x.w;
  const int64_t copied = dense ? rows : 1;  // rows at once
  for (int64_t row = 0; row < rows; row += copied)
    strided_copy(x.data + t.n * x.n + t.channel * x.c + (begin + row) * x.h, x.w, x.c, scratch + row * s.iw * kLanes,
                 kLanes, copied * s.iw, t.channels);

  Conv2dDepthwise own = conv;
  own.input = {scratch - begin * s.iw * kLanes, 0, 1, s.iw * kLanes, kLanes};
  own.weight.data += t.channel * conv.weight.n;
  if (conv.bias) own.bias += t.channel;
  own.output = {pixels - t.row * s.ow * kLanes, 0, 1, s.ow * kLanes, kLanes};
  depthwise_channels_last(own, {0, t.row, t.rows, 0, t.channels}, pixels + b.row_floats);

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

void conv2d_depthwise_forward(const Conv2dDepthwise& conv, int64_t task, float* scratch) {
  const Conv2dDepthwiseBlocking& b = conv.blocking;
  DepthwiseTask t;
  t.channel = task % b.channel_chunks * b.channels;
  task /= b.channel_chunks;
  t.row = task % b.row_bands * b.rows;
  t.n = task / b.row_bands;
  t.rows = min(b.rows, conv.shape.oh - t.row);
  t.channels = min(b.channels, conv.shape.oc - t.channel);
  if (b.channels_last)
    depthwise_channels_last(conv, t, scratch);
  else if (b.packed)
    depthwise_packed(conv, t, scratch);
  else
    depthwise_planes(conv, t, scratch);
}

// ---- gradient of the weight

// The products of a part of an output row with the input under some neighbouring taps; channels in the lanes.
struct DepthwiseWeightColumns {
  const float* input;  // under the first tap, for output column 0
  int64_t tap, pixel;  // strides of a tap and of an output pixel
  const float* grad;
  int64_t grad_pixel;
  int64_t channels;
};

// sums [Taps, channels] += the products of `cols`, Vecs vectors of channels at a time.
template <int Taps, int Vecs, typename Lanes>
inline void add_columns(const DepthwiseWeightColumns& p, int64_t c, Lanes lanes, Range cols, float* sums) {
  Vec sum[Taps][Vecs] = {};
  const float* x = p.input + cols.begin * p.pixel + c;
  const float* g = p.grad + cols.begin * p.grad_pixel + c;
  for (int64_t col = cols.begin; col < cols.end; ++col, x += p.pixel, g += p.grad_pixel) {
#pragma GCC unroll 4
    for (int v = 0; v < Vecs; ++v) {
      const Vec grad = lanes.load(g + v * kLanes);
#pragma GCC unroll 4
      for (int tap = 0; tap < Taps; ++tap) sum[tap][v] += lanes.load(x + tap * p.tap + v * kLanes) * grad;
    }
  }
#pragma GCC unroll 4
  for (int tap = 0; tap < Taps; ++tap)
#pragma GCC unroll 4
    for (int v = 0; v < Vecs; ++v) {
      float* total = sums + tap * p.channels + c + v * kLanes;
      lanes.store(total, lanes.load(total) + sum[tap][v]);
    }
}

template <int Taps>
void depthwise_weight_columns(const DepthwiseWeightColumns& p, Range cols, float* sums) {
  if (cols.begin >= cols.end) return;
  const int64_t pairs = p.channels / (2 * kLanes) * 2 * kLanes;
  for (int64_t c = 0; c < pairs; c += 2 * kLanes) add_columns<Taps, 2>(p, c, WholeVector{}, cols, sums);
  for_each_vector_of(p.channels - pairs,
                     [&](int64_t c, auto lanes) { add_columns<Taps, 1>(p, pairs + c, lanes, cols, sums); });
}

// sums [kh, kw, channels] += the products of one output row. Three taps at a time share the columns that all of them
// have.
void depthwise_weight_row(const Conv2dDepthwiseBackwardWeight& conv, int64_t n, int64_t row, int64_t channel,
                          int64_t channels, float* sums) {
  const Conv2dShape& s = conv.shape;
  const View4d<const float>&x = conv.input, &g = conv.grad_output;
  const Range taps_h = taps_inside(row, s.stride_h, s.pad_top, s.dilation_h, s.kh, s.ih);
  DepthwiseWeightColumns p;
  p.tap = s.dilation_w * x.w, p.pixel = s.stride_w * x.w;
  p.grad = g.data + n * g.n + row * g.h + channel;
  p.grad_pixel = g.w;
  p.channels = channels;
  const auto columns = [&](int64_t j) { return outputs_inside(j * s.dilation_w - s.pad_left, s.stride_w, s.iw, s.ow); };
  for (int64_t i = taps_h.begin; i < taps_h.end; ++i) {
    const float* input =
        x.data + n * x.n + (row * s.stride_h - s.pad_top + i * s.dilation_h) * x.h - s.pad_left * x.w + channel;
    for (int64_t j = 0; j < s.kw;) {
      const int64_t taps = s.kw - j >= 3 ? 3 : 1;
      const Range shared{columns(j).begin, max(columns(j + taps - 1).end, columns(j).begin)};
      p.input = input + j * p.tap;
      float* sum = sums + (i * s.kw + j) * channels;
      taps == 3 ? depthwise_weight_columns<3>(p, shared, sum) : depthwise_weight_columns<1>(p, shared, sum);
      for (int64_t tap = 0; tap < taps; ++tap, ++j, p.input += p.tap, sum += channels) {
        const Range own = columns(j);
        depthwise_weight_columns<1>(p, {own.begin, min(own.end, shared.begin)}, sum);
        depthwise_weight_columns<1>(p, {max(own.begin, shared.end), own.end}, sum);
      }
    }
  }
}

inline float sum_lanes(Vec v) {
  float total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += v[lane];
  return total;
}

// sums[tap] += the products of a packed band; columns in the lanes. In the last vector of a row the gradient is zero
// beyond the output, and what it would meet is taken for zero too: it may be Inf or NaN.
template <int Taps>
void depthwise_weight_taps(const float* plane, int64_t plane_row, const float* grad, int64_t rows, int64_t cols,
                           const int64_t* offsets, float* sums) {
  Vec sum[Taps] = {};
  const int64_t row = round_up(cols, kLanes);
  IntVec exists;
  for (int lane = 0; lane < kLanes; ++lane) exists[lane] = row - kLanes + lane < cols ? -1 : 0;
  for (int64_t r = 0; r < rows; ++r, plane += plane_row, grad += row) {
    for (int64_t col = 0; col + kLanes < row; col += kLanes) {
      const Vec g = load(grad + col);
#pragma GCC unroll 9
      for (int tap = 0; tap < Taps; ++tap) sum[tap] += load(plane + offsets[tap] + col) * g;
    }
    const Vec g = load(grad + row - kLanes);
#pragma GCC unroll 9
    for (int tap = 0; tap < Taps; ++tap) sum[tap] += (exists ? load(plane + offsets[tap] + row - kLanes) : Vec{}) * g;
  }
  for (int tap = 0; tap < Taps; ++tap) sums[tap] += sum_lanes(sum[tap]);
}

// sums [channels, kh, kw] += the products of one image, a band after the other.
void depthwise_weight_planes(const Conv2dDepthwiseBackwardWeight& conv, int64_t n, int64_t channel, int64_t channels,
                             float* scratch, const int64_t* offsets, float* sums) {
  const Conv2dShape& s = conv.shape;
  const Conv2dDepthwiseBlocking& b = conv.blocking;
  const View4d<const float>& g = conv.grad_output;
  const int64_t taps = s.kh * s.kw, plane_row = s.stride_h * s.stride_w * b.band_w;
  float* grad = scratch + b.plane_floats;
  for (int64_t row = 0; row < s.oh; row += b.rows) {
    const int64_t rows = min(b.rows, s.oh - row);
    const DepthwisePlane plane(s, b, row, rows, scratch);
    fill_zero(grad, rows * b.row);
    for (int64_t c = 0; c < channels; ++c) {
      plane.pack(conv.input, n, channel + c);
      const float* source = g.data + n * g.n + (channel + c) * g.c;
      pack_phases(g, source, {{row, rows, s.oh}, 0, s.ow, 1, b.row, rows * b.row}, 1, grad);
      int64_t tap = 0;
      for (float* sum = sums + c * taps; tap < taps;) {
        const int64_t together = taps - tap >= kDepthwiseTaps ? kDepthwiseTaps : 1;
        const auto add = together == 1 ? depthwise_weight_taps<1> : depthwise_weight_taps<kDepthwiseTaps>;
        add(plane.data, plane_row, grad, rows, s.ow, offsets + tap, sum + tap);
        tap += together;
      }
    }
  }
}

void conv2d_depthwise_backward_weight(const Conv2dDepthwiseBackwardWeight& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dDepthwiseBlocking& b = conv.blocking;
  const int64_t channel = task % b.channel_chunks * b.channels, channels = min(b.channels, s.oc - channel);
  const int64_t split = task / b.channel_chunks, taps = s.kh * s.kw;
  float* total = scratch + b.plane_floats + b.row_floats;
  float* sums = total + taps * channels;  // of one image
  int64_t* offsets = reinterpret_cast<int64_t*>(total + b.weight_floats);
  depthwise_offsets(s, b, offsets);
  fill_zero(total, taps * channels);
  for (int64_t n = split; n < s.n; n += b.splits) {
    fill_zero(sums, taps * channels);
    if (b.channels_last)
      for (int64_t row = 0; row < s.oh; ++row) depthwise_weight_row(conv, n, row, channel, channels, sums);
    else
      depthwise_weight_planes(conv, n, channel, channels, scratch, offsets, sums);
    for (int64_t i = 0; i < taps * channels; ++i) total[i] += sums[i];
  }
  const View4d<float>& w = conv.grad_weight;
  float* result = w.data + split * conv.split_stride + channel * w.n;
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t tap = 0; tap < taps; ++tap)
      result[c * w.n + tap / s.kw * w.h + tap % s.kw * w.w] =
          total[b.channels_last ? tap * channels + c : c * taps + tap];
}

}  // namespace
}  // namespace convkit
