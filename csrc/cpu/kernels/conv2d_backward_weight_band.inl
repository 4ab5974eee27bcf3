// What the tiles of a direct convolution's gradient of the weight share: tasks, their bands of pixels and the packed
// input.
#pragma once

#include "cpu/kernels/conv2d_direct.h"
#include "cpu/kernels/gemm_tile.inl"
#include "cpu/kernels/pack.inl"

namespace convkit {
namespace {

struct BackwardWeightTask {
  int64_t group, split;
  int64_t ic, ics, oc, ocs;  // channels within the group
};

BackwardWeightTask backward_weight_task(const Conv2dBackwardWeight& conv, int64_t task) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBackwardWeightBlocking& b = conv.blocking;
  BackwardWeightTask t;
  t.oc = task % b.oc_chunks * b.oc_chunk;
  task /= b.oc_chunks;
  t.ic = task % b.ic_chunks * b.ic_chunk;
  task /= b.ic_chunks;
  t.group = task % s.groups;
  t.split = task / s.groups;
  t.ics = min(b.ic_chunk, s.group_ic() - t.ic);
  t.ocs = min(b.oc_chunk, s.group_oc() - t.oc);
  return t;
}

// The parts of its scratch; behind `sums` there is as much for the total of several.
struct BackwardWeightScratch {
  float *x, *grad_output;
  int64_t* first_pixels;
  float* sums;

  BackwardWeightScratch(const Conv2dBackwardWeightBlocking& b, float* scratch)
      : x(scratch),
        grad_output(x + b.input_floats),
        first_pixels(reinterpret_cast<int64_t*>(grad_output + b.grad_floats)),
        sums(grad_output + b.grad_floats + b.table_floats) {}
};

// One band of output pixels of one image.
struct PixelBand {
  int64_t n, row, rows, col, cols;
};

// Bands whose products are added up one after the other before they go to the total: chains of float32 additions stay
// short however many images there are.
constexpr int64_t kBandsPerSum = 256;

inline void add_to(float* total, const float* sums, int64_t count) {
  for (int64_t i = 0; i < count; ++i) total[i] += sums[i];
}

// Adds up the bands of a task, by add(band, accumulate), which adds one to `sums` or is the first of them; returns
// where they are: in `sums` or in the total behind it.
template <typename Add>
float* sum_bands(const Conv2dBackwardWeight& conv, int64_t split, float* sums, Add add) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBackwardWeightBlocking& b = conv.blocking;
  float* const total = sums + b.sum_floats;
  const int64_t bands = s.n * b.row_bands * b.col_bands;
  const int64_t begin = bands * split / b.splits, end = bands * (split + 1) / b.splits;
  const bool one_sum = end > begin && end - begin <= kBandsPerSum;
  if (!one_sum) fill_zero(total, b.sum_floats);
  for (int64_t i = begin; i < end; ++i) {
    PixelBand band;
    band.col = i % b.col_bands * b.cols;
    band.row = i / b.col_bands % b.row_bands * b.rows;
    band.n = i / b.col_bands / b.row_bands;
    band.rows = min(b.rows, s.oh - band.row);
    band.cols = min(b.cols, s.ow - band.col);
    const int64_t position = (i - begin) % kBandsPerSum;
    add(band, position > 0);
    if (!one_sum && (position == kBandsPerSum - 1 || i == end - 1)) add_to(total, sums, b.sum_floats);
  }
  return one_sum ? sums : total;
}

// Where the numbers of a packed input band lie: [ics, band_h, stride_w, band_w], in which the pixels that a tap meets
// are contiguous for every stride, or as in a channels_last image, [band_h, stride_w * band_w, ics].
struct PackedInput {
  int64_t channel, row, pixel;  // from a channel, an input row, an output pixel to the next
  int64_t phase;                // from a stride phase to the next

  PackedInput(const Conv2dBackwardWeight& conv, int64_t ics, bool channels_last) {
    const Conv2dBackwardWeightBlocking& b = conv.blocking;
    const int64_t stride_w = conv.shape.stride_w;
    row = stride_w * b.band_w * (channels_last ? ics : 1);
    channel = channels_last ? 1 : b.band_h * row;
    pixel = channels_last ? stride_w * ics : 1;
    phase = channels_last ? ics : b.band_w;
  }
  // Where the pixels that tap [kh, kw] of the first channel meets begin.
  int64_t tap(const Conv2dShape& s, int64_t kh, int64_t kw) const {
    const int64_t col = kw * s.dilation_w;
    return kh * s.dilation_h * row + col % s.stride_w * phase + col / s.stride_w * pixel;
  }
};

// The same for each weight [kh, kw, ic].
void list_weights(const Conv2dShape& s, const PackedInput& x, int64_t ics, int64_t* first_pixels) {
  for (int64_t kh = 0; kh < s.kh; ++kh)
    for (int64_t kw = 0; kw < s.kw; ++kw)
      for (int64_t ic = 0; ic < ics; ++ic) *first_pixels++ = x.tap(s, kh, kw) + ic * x.channel;
}

void pack_input(const Conv2dBackwardWeight& conv, const BackwardWeightTask& t, const PixelBand& band,
                bool channels_last, float* x) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBackwardWeightBlocking& b = conv.blocking;
  const View4d<const float>& v = conv.input;
  const float* image = v.data + band.n * v.n + (t.group * s.group_ic() + t.ic) * v.c;
  const Extent rows{band.row * s.stride_h - s.pad_top, (band.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1,
                    s.ih};
  const int64_t col = band.col * s.stride_w - s.pad_left;
  if (channels_last) return pack_band(v, image, rows, {col, s.stride_w * b.band_w, s.iw}, t.ics, t.ics, x);
  const PhasedBand phased{rows, col, s.iw, s.stride_w, b.band_w, b.band_h * s.stride_w * b.band_w};
  fill_zero(x, t.ics * phased.channel);
  pack_phases(v, image, phased, t.ics, x);
}

// Adds what is at place(row, index in the row), if wanted, and stores.
template <int Rows, int Vecs, typename Place>
inline void store_sums(Vec (&sum)[Rows][Vecs], bool accumulate, Place place) {
  if (accumulate) for_each_vector(sum, [&](Vec& value, int row, int v) { value += load(place(row, v)); });
  for_each_vector(sum, [&](Vec& value, int row, int v) { store(place(row, v), value); });
}

}  // namespace
}  // namespace convkit
