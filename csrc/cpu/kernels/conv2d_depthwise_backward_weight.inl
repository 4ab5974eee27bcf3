// Gradient of the weight of a depthwise convolution: the layouts and tiles of the forward one (conv2d_depthwise.inl).
#pragma once

#include "cpu/kernels/conv2d_depthwise.inl"

namespace convkit {
namespace {

constexpr int kDepthwiseTaps = 9;  // whose gradients are summed in registers together: those of a 3x3 window

// Three arrays of sums, one after the other, so that no chain of additions is long: the task's, those of a part of an
// image, those of a few hundred pixels.
struct DepthwiseSums {
  static constexpr int64_t kAdditions = 256;  // to those of a part

  float* task;
  int64_t floats, added = 0;

  float* part() const { return task + floats; }
  float* pixels() const { return task + 2 * floats; }
  void end_pixels() {
    add(pixels(), part());
    count(1);
  }
  void count(int64_t additions) {
    if ((added += additions) >= kAdditions) end_part();
  }
  void end_part() {
    add(part(), task);
    added = 0;
  }
  void add(float* from, float* to) const {
    for (int64_t i = 0; i < floats; ++i) to[i] += from[i];
    fill_zero(from, floats);
  }
};

// ---- channels_last

struct DepthwiseWeight : DepthwiseTile<float> {
  const float* grad;  // of the tile's pixels
  int64_t grad_pixel;
  float* sums;  // [kh, kw, channels]
};

template <int Pixels, typename Lanes>
inline void load_grad(const DepthwiseWeight& p, int64_t c, Lanes lanes, Vec (&grad)[Pixels]) {
#pragma GCC unroll 6
  for (int pixel = 0; pixel < Pixels; ++pixel) grad[pixel] = lanes.load(p.grad + pixel * p.grad_pixel + c);
}

// Any taps.
template <int Pixels>
void depthwise_weight(const DepthwiseWeight& tile) {
  for_each_vector_of(tile.channels, [p = tile](int64_t c, auto lanes) {
    Vec grad[Pixels];
    load_grad(p, c, lanes, grad);
    for (int64_t i = p.taps_h.begin; i < p.taps_h.end; ++i) {
      for (int64_t j = p.taps_w.begin; j < p.taps_w.end; ++j) {
        const float* x = p.input + i * p.input_h + j * p.input_w + c;
        float* place = p.sums + (i * p.kw + j) * p.channels + c;
        Vec sum = lanes.load(place);
#pragma GCC unroll 6
        for (int pixel = 0; pixel < Pixels; ++pixel) sum += lanes.load(x + pixel * p.pixel) * grad[pixel];
        lanes.store(place, sum);
      }
    }
  });
}

// Rows of three neighbouring taps, as in depthwise_pixels_3.
template <int Stride, bool Edge, int Pixels>
void depthwise_weight_3(const DepthwiseWeight& tile) {
  for_each_vector_of(tile.channels, [p = tile](int64_t c, auto lanes) {
    Vec grad[Pixels];
    load_grad(p, c, lanes, grad);
    for (int64_t i = p.taps_h.begin; i < p.taps_h.end; ++i) {
      const float* x = p.input + i * p.input_h + c;
      float* place = p.sums + i * 3 * p.channels + c;
      Vec sum[3] = {lanes.load(place), lanes.load(place + p.channels), lanes.load(place + 2 * p.channels)};
#pragma GCC unroll 16
      for (int col = 0; col < (Pixels - 1) * Stride + 3; ++col) {
        if (Edge && (col < p.cols.begin || col >= p.cols.end)) continue;
        Vec value = lanes.load(x + col * p.input_w);
        keep_in_register(value);  // or gcc loads it for each product
#pragma GCC unroll 6
        for (int pixel = 0; pixel < Pixels; ++pixel) {
          const int tap = col - pixel * Stride;
          if (tap >= 0 && tap < 3) sum[tap] += value * grad[pixel];
        }
      }
#pragma GCC unroll 3
      for (int tap = 0; tap < 3; ++tap) lanes.store(place + tap * p.channels, sum[tap]);
    }
  });
}

constexpr DepthwiseFunction<DepthwiseWeight>* kDepthwiseWeightAny[kDepthwisePixels] = {
    depthwise_weight<1>, depthwise_weight<2>, depthwise_weight<3>,
    depthwise_weight<4>, depthwise_weight<5>, depthwise_weight<6>};
template <int Stride, bool Edge>
constexpr DepthwiseFunction<DepthwiseWeight>* kDepthwiseWeight3[kDepthwisePixels] = {
    depthwise_weight_3<Stride, Edge, 1>, depthwise_weight_3<Stride, Edge, 2>, depthwise_weight_3<Stride, Edge, 3>,
    depthwise_weight_3<Stride, Edge, 4>, depthwise_weight_3<Stride, Edge, 5>, depthwise_weight_3<Stride, Edge, 6>};
constexpr DepthwiseFunctions<DepthwiseWeight> kDepthwiseWeightOf = {
    kDepthwiseWeightAny,
    {{kDepthwiseWeight3<1, false>, kDepthwiseWeight3<1, true>},
     {kDepthwiseWeight3<2, false>, kDepthwiseWeight3<2, true>}}};

// sums [kh, kw, channels] += the products of a band, which has one row if that is longer than `summed`.
void depthwise_weight_band(const Conv2dShape& s, const View4d<const float>& x, const View4d<const float>& g,
                           const DepthwiseTask& t, int64_t summed, DepthwiseSums& sums) {
  DepthwiseWeight p;
  p.grad_pixel = g.w;
  p.sums = sums.pixels();
  const float* const grad = g.data + t.n * g.n + t.channel;
  int64_t end = summed;
  run_depthwise_tiles(s, x, t, kDepthwiseWeightOf, p, [&](DepthwiseWeight& tile, int64_t row, int64_t col) {
    if (col >= end) sums.end_pixels(), end = col + summed;
    tile.grad = grad + row * g.h + col * g.w;
  });
  sums.end_pixels();
}

// sums [kh, kw, channels] += the products of one image, a band after the other.
void depthwise_weight_image(const Conv2dDepthwiseBackwardWeight& conv, DepthwiseTask t, float* scratch,
                            DepthwiseSums& sums) {
  const Conv2dShape& s = conv.shape;
  const Conv2dDepthwiseBlocking& b = conv.blocking;
  const View4d<const float>&x = conv.input, &g = conv.grad_output;
  float* const grad = scratch + b.plane_floats;
  for (; t.row < s.oh; t.row += b.rows) {
    t.rows = min(b.rows, s.oh - t.row);
    if (b.layout == DepthwiseLayout::kChannelsLast) {
      depthwise_weight_band(s, x, g, t, b.summed, sums);
    } else {
      const Range rows = depthwise_rows(s, t.row, t.rows), grad_rows{t.row, t.row + t.rows};
      pack_channels(x, x.data + t.n * x.n + t.channel * x.c, rows, s.iw, t.channels, scratch);
      pack_channels(g, g.data + t.n * g.n + t.channel * g.c, grad_rows, s.ow, t.channels, grad);
      depthwise_weight_band(s, packed_image<const float>(scratch, rows.begin, s.iw),
                            packed_image<const float>(grad, t.row, s.ow), {0, t.row, t.rows, 0, t.channels}, b.summed,
                            sums);
    }
  }
}

// ---- planes

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
                             float* scratch, const int64_t* offsets, DepthwiseSums& sums) {
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
      for (float* sum = sums.part() + c * taps; tap < taps;) {
        const int64_t together = taps - tap >= kDepthwiseTaps ? kDepthwiseTaps : 1;
        const auto add = together == 1 ? depthwise_weight_taps<1> : depthwise_weight_taps<kDepthwiseTaps>;
        for (int64_t col = 0; col < s.ow; col += b.summed)  // more than once for a row alone
          add(plane.data + col, plane_row, grad + col, rows, min(b.summed, s.ow - col), offsets + tap, sum + tap);
        tap += together;
      }
    }
    sums.count(ceil_div(s.ow, b.summed));
  }
}

void conv2d_depthwise_backward_weight(const Conv2dDepthwiseBackwardWeight& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dDepthwiseBlocking& b = conv.blocking;
  const int64_t channel = task % b.channel_chunks * b.channels, channels = min(b.channels, s.oc - channel);
  const int64_t split = task / b.channel_chunks, taps = s.kh * s.kw;
  const bool lanes_are_channels = b.layout != DepthwiseLayout::kPlanes;
  float* total = scratch + b.plane_floats + b.row_floats;
  int64_t* offsets = reinterpret_cast<int64_t*>(total + b.weight_floats);
  depthwise_offsets(s, b, offsets);
  DepthwiseSums sums{total, taps * channels};
  fill_zero(total, 3 * sums.floats);
  for (int64_t n = split; n < s.n; n += b.splits) {
    if (lanes_are_channels)
      depthwise_weight_image(conv, {n, 0, 0, channel, channels}, scratch, sums);
    else
      depthwise_weight_planes(conv, n, channel, channels, scratch, offsets, sums);
    sums.end_part();
  }
  const View4d<float>& w = conv.grad_weight;
  float* result = w.data + split * conv.split_stride + channel * w.n;
  if (lanes_are_channels)  // [kh, kw, channels]
    strided_copy(total, 1, channels, result, w.n, channels, taps);
  else
    strided_copy(total, taps, 1, result, w.n, channels, taps);
}

}  // namespace
}  // namespace convkit
