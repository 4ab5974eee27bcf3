// What a task of a grouped convolution reads: the input band and the weights, packed so that every lane of a vector
// finds those of its own group.
#pragma once

#include "cpu/kernels/conv2d_grouped.h"
#include "cpu/kernels/pack.inl"

namespace convkit {
namespace {

// Output channels of one vector, and the input channels that they meet.
struct GroupedLanes {
  int64_t group, ic, oc;  // the first ones
  int64_t ics, ocs;
  int64_t vectors = 0;   // of a pixel that is packed by permutations
  IntVec index[kLanes];  // of each: which of `ics` its lanes have

  GroupedLanes(const Conv2dShape& s, const Conv2dGroupedBlocking& b, int64_t vector) {
    group = vector * b.vector_groups;
    const int64_t groups = min(b.vector_groups, s.groups - group);
    ic = group * s.group_ic(), oc = group * s.group_oc();
    ics = groups * s.group_ic(), ocs = groups * s.group_oc();
    const bool fours = b.input == GroupedInput::kFours;
    if (b.input == GroupedInput::kScalars || (fours && s.group_ic() == 4 && s.group_oc() == 4)) return;
    vectors = b.pixel_floats / kLanes;
    index[0] = IntVec{};
    for (int64_t lane = 0, first = 0; lane < ocs; first += s.group_ic())
      for (const int64_t end = lane + s.group_oc(); lane < end; ++lane)
        index[0][lane] = static_cast<int32_t>(first + (fours ? lane % 4 : 0));
    for (int64_t v = 1; v < vectors; ++v) index[v] = index[v - 1] + (fours ? 4 : 1);
  }
};

struct GroupedTask {
  int64_t n, vector, row, rows, col, cols;
};

GroupedTask decode(const Conv2dGrouped& conv, int64_t task) {
  const Conv2dShape& s = conv.shape;
  const Conv2dGroupedBlocking& b = conv.blocking;
  GroupedTask t;
  t.vector = task % b.vectors;  // fastest: neighbouring tasks read the same lines of a channels_last input
  task /= b.vectors;
  t.col = task % b.col_bands * b.cols;
  task /= b.col_bands;
  t.row = task % b.row_bands * b.rows;
  t.n = task / b.row_bands;
  t.rows = min(b.rows, s.oh - t.row);
  t.cols = min(b.cols, s.ow - t.col);
  return t;
}

// The input of a task, packed row by row as [band_h, band_w, pixel_floats].
class GroupedBand {
 public:
  const float* data;
  int64_t row, pixel;  // strides

  GroupedBand(const Conv2dGroupedBlocking& b, const View4d<const float>& x, int64_t n, Extent h, Extent w,
              const GroupedLanes& lanes, float* scratch)
      : data(scratch),
        row(w.count * b.pixel_floats),
        pixel(b.pixel_floats),
        x_(x),
        lanes_(lanes),
        scratch_(scratch),
        image_(x.data + n * x.n + lanes.ic * x.c),
        h_(h),
        w_(w) {}

  // If what it would pack lies so in memory.
  void read_in_place() {
    const bool inside =
        h_.start >= 0 && w_.start >= 0 && h_.start + h_.count <= h_.size && w_.start + w_.count <= w_.size;
    if (!inside || lanes_.vectors || x_.c != 1 || lanes_.ics != pixel) return;
    data = image_ + h_.start * x_.h + w_.start * x_.w;
    row = x_.h, pixel = x_.w;
    packed_ = h_.count;
  }

  // Packs the rows before `end` that are not packed yet.
  void pack_before(int64_t end) {
    if (packed_ >= end) return;
    float* to = scratch_ + packed_ * row;
    if (!lanes_.vectors)
      pack_band(x_, image_, {h_.start + packed_, end - packed_, h_.size}, w_, lanes_.ics, pixel, to);
    else
      for (int64_t i = packed_; i < end; ++i, to += row) pack_permuted(h_.start + i, to);
    packed_ = end;
  }

 private:
  // One row of the image, a vector after the other.
  void pack_permuted(int64_t image_row, float* to) const {
    const Range cols = inside(w_.start, w_.count, w_.size);
    if (image_row < 0 || image_row >= h_.size || cols.begin == cols.end) return fill_zero(to, row);
    fill_zero(to, cols.begin * pixel);
    fill_zero(to + cols.end * pixel, row - cols.end * pixel);
    const float* from = image_ + image_row * x_.h + (w_.start + cols.begin) * x_.w;
    int64_t from_pixel = x_.w;
    if (x_.c != 1 || lanes_.ics != kLanes) {
      float* const channels = scratch_ + h_.count * row;
      strided_copy(from, x_.w, x_.c, channels, kLanes, cols.end - cols.begin, lanes_.ics);
      from = channels, from_pixel = kLanes;
    }
    to += cols.begin * pixel;
    for (int64_t v = 0; v < lanes_.vectors; ++v) {
      const IntVec index = lanes_.index[v];
      for (int64_t j = 0; j < cols.end - cols.begin; ++j)
        store(to + j * pixel + v * kLanes, permute(load(from + j * from_pixel), index));
    }
  }

  const View4d<const float>& x_;
  const GroupedLanes& lanes_;
  float* scratch_;
  const float* image_;
  Extent h_, w_;
  int64_t packed_ = 0;
};

// What the windows of a task cover.
GroupedBand grouped_band(const Conv2dShape& s, const Conv2dGroupedBlocking& b, const View4d<const float>& x,
                         const GroupedTask& t, const GroupedLanes& lanes, float* scratch) {
  const int64_t h = (t.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  const int64_t w = (t.cols - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1;
  return GroupedBand(b, x, t.n, {t.row * s.stride_h - s.pad_top, h, s.ih}, {t.col * s.stride_w - s.pad_left, w, s.iw},
                     lanes, scratch);
}

// -> packed [kh, ic, kw, lanes]
void pack_grouped_weight(const Conv2dGrouped& conv, const GroupedLanes& lanes, float* packed) {
  const Conv2dShape& s = conv.shape;
  const View4d<const float>& w = conv.weight;
  const int64_t ics = s.group_ic(), taps = s.kh * s.kw;
  const float* base[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const int64_t oc = min(lane, lanes.ocs - 1);
    base[lane] = w.data + (lanes.group + oc / s.group_oc()) * conv.weight_group_stride + oc % s.group_oc() * w.n;
  }
  const auto place = [&](int64_t k, int64_t tap) {
    return packed + ((tap / s.kw * ics + k) * s.kw + tap % s.kw) * kLanes;
  };
  const auto offset = [&](int64_t tap) { return tap / s.kw * w.h + tap % s.kw * w.w; };
  // block[i] = what the lanes hold `from + i` floats after their base.
  const auto load_block = [&](int64_t from, int64_t count, Vec(&block)[kLanes]) {
#pragma GCC unroll 16
    for (int lane = 0; lane < kLanes; ++lane) block[lane] = load_first(base[lane] + from, count);
    transpose(block);
  };
  const int64_t low = min(offset(0), offset(taps - 1)), span = max(offset(0), offset(taps - 1)) - low + 1;
  Vec block[kLanes];
  if (span <= kLanes && w.h * w.w >= 0) {  // taps near each other, in this order or in reverse
    for (int64_t k = 0; k < ics; ++k) {
      load_block(k * w.c + low, span, block);
      for (int64_t tap = 0; tap < taps; ++tap) store_far(place(k, tap), block[offset(tap) - low]);
    }
  } else if (w.c == 1) {  // input channels side by side
    for (int64_t tap = 0; tap < taps; ++tap) {
      load_block(offset(tap), ics, block);
      for (int64_t k = 0; k < ics; ++k) store_far(place(k, tap), block[k]);
    }
  } else {
    const bool side_by_side = w.n == 1 && conv.blocking.vector_groups == 1;  // output channels
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t k = 0; k < ics; ++k) {
        const int64_t from = k * w.c + offset(tap);
        if (side_by_side)
          store_far(place(k, tap), load_first(base[0] + from, lanes.ocs));
        else
          for (int64_t lane = 0; lane < kLanes; ++lane) place(k, tap)[lane] = base[lane][from];
      }
  }
}

// -> packed [vector, kh, ic, kw, lanes]
void conv2d_grouped_pack_weight(const Conv2dGrouped& conv, int64_t vector, float* packed, float*) {
  const GroupedLanes lanes(conv.shape, conv.blocking, vector);
  pack_grouped_weight(conv, lanes, packed + vector * conv.block_floats());
}

// A task's weights: those that are packed for all tasks, or its own in scratch.
const float* grouped_weight(const Conv2dGrouped& conv, const GroupedTask& t, const GroupedLanes& lanes,
                            float* scratch) {
  if (conv.packed_weight) return conv.packed_weight + t.vector * conv.block_floats();
  float* const packed = scratch + conv.blocking.input_floats + conv.blocking.output_floats;
  pack_grouped_weight(conv, lanes, packed);
  return packed;
}

}  // namespace
}  // namespace convkit
