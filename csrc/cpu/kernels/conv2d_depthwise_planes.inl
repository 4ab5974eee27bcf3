// Depthwise convolution of fewer channels than lanes, plane by plane: the band of a plane is packed with its columns
// sorted by stride phase, so that the pixels that a tap meets are contiguous, and output columns are in the lanes.
#pragma once

#include "cpu/kernels/conv2d_depthwise_tile.inl"

namespace convkit {
namespace {

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

void depthwise_planes(const Conv2dDepthwise<float>& conv, const DepthwiseTask& t, float* scratch) {
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

}  // namespace
}  // namespace convkit
