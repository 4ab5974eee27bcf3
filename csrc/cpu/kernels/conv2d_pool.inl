// The end of a fused convolution: pools a task's sums, [rows, cols, oc] in scratch, and stores values and taps in the
// output's layout.
#pragma once

#include "cpu/kernels/conv2d_direct.h"
#include "cpu/kernels/max_pool2d.inl"
#include "cpu/kernels/pack.inl"

namespace convkit {
namespace {

// A tap without gradient where ReLU let nothing through: the value is <= 0. A NaN passes its gradient.
inline void mark_dead_taps(const float* values, uint8_t* taps, int64_t count) {
  for_each_vector_of(count, [=](int64_t i, auto lanes) {
    const IntVec tap = lanes.load_bytes(taps + i);
    lanes.store_bytes(taps + i, lanes.load(values + i) <= Vec{} ? broadcast_int(kDeadTap) : tap);
  });
}

// `sums`: the convolution's output rows from `row` and columns from `col` on, of image n and channels [oc, oc + ocs).
struct PoolBand {
  View4d<const float> sums;
  int64_t n, row, rows, col, cols, oc, ocs;
};

// In a channels_last output, in place.
void store_pooled_pixels(const Conv2dPool<float>& pool, MaxPool2d& local, int64_t first_out) {
  const Pool2dShape& s = local.shape;
  const View4d<float>& y = pool.output;
  local.output = {y.data + first_out, 0, 1, y.h, y.w};
  local.taps = pool.taps ? pool.taps + first_out : nullptr;
  const int64_t runs = y.w == s.c ? 1 : s.ow, run = s.ow * s.c / runs;
  for (int64_t oh = 0; oh < s.oh; ++oh) {
    max_pool2d_channels_last_row(local, 0, oh);
    for (int64_t i = 0; pool.taps && pool.relu_taps && i < runs; ++i)
      mark_dead_taps(local.output.data + oh * y.h + i * y.w, local.taps + oh * y.h + i * y.w, run);
  }
}

template <typename T>
void store_pooled(const Conv2dPool<T>& pool, const PoolBand& band, float* scratch) {
  const Pool2dShape& whole = pool.shape;
  MaxPool2d local{whole, band.sums, {}, nullptr};
  Pool2dShape& s = local.shape;
  const int64_t first_row = band.row / whole.stride_h, first_col = band.col / whole.stride_w;
  s.n = 1, s.c = band.ocs, s.ih = band.rows, s.iw = band.cols;
  s.oh = min(whole.oh - first_row, ceil_div(band.rows, whole.stride_h));
  if (band.cols < whole.iw) s.ow = min(whole.ow - first_col, ceil_div(band.cols, whole.stride_w));
  if (s.oh < 1 || s.ow < 1) return;  // its pixels are in no window
  const View4d<T>& y = pool.output;
  const int64_t first_out = band.n * y.n + band.oc * y.c + first_row * y.h + first_col * y.w;
  if constexpr (std::is_same_v<T, float>) {
    if (y.c == 1) return store_pooled_pixels(pool, local, first_out);
  }
  uint8_t* local_taps = reinterpret_cast<uint8_t*>(scratch + s.ow * band.ocs);
  for (int64_t oh = 0; oh < s.oh; ++oh) {
    // One pooled row, [ow, ocs] in scratch: its row stride is 0, so that the kernel writes every row there.
    local.output = {scratch, 0, 1, 0, band.ocs};
    local.taps = pool.taps ? local_taps : nullptr;
    max_pool2d_channels_last_row(local, 0, oh);
    if (pool.taps && pool.relu_taps) mark_dead_taps(scratch, local_taps, s.ow * band.ocs);
    const int64_t out = first_out + oh * y.h;
    store_pixels(scratch, 0, band.ocs, y, y.data + out, 1, s.ow, band.ocs);
    for (int64_t c = 0; pool.taps && c < band.ocs; ++c)
      for (int64_t ow = 0; ow < s.ow; ++ow) pool.taps[out + c * y.c + ow * y.w] = local_taps[ow * band.ocs + c];
  }
}

// The same of a task's sums as dense planes [ocs, rows, all columns], into the planes of a contiguous output.
void store_pooled_planes(const Conv2dPool<float>& pool, const PoolBand& band, float* scratch) {
  const Pool2dShape& whole = pool.shape;
  MaxPool2d local{whole, band.sums, {}, nullptr};
  Pool2dShape& s = local.shape;
  const int64_t first_row = band.row / whole.stride_h;
  s.n = 1, s.ih = band.rows;
  s.oh = min(whole.oh - first_row, ceil_div(band.rows, whole.stride_h));
  if (s.oh < 1) return;                   // its pixels are in no window
  s.c = s.oh == whole.oh ? band.ocs : 1;  // planes whose pooled rows follow each other in memory
  for (int64_t c = 0; c < band.ocs; c += s.c) {
    const int64_t out = band.n * pool.output.n + (band.oc + c) * pool.output.c + first_row * pool.output.h;
    local.input.data = band.sums.data + c * band.sums.c;
    local.output = {pool.output.data + out, 0, s.oh * s.ow, s.ow, 1};
    local.taps = pool.taps ? pool.taps + out : nullptr;
    max_pool2d_plane_rows(local, 0, s.c * s.oh, scratch);
    if (pool.taps && pool.relu_taps) mark_dead_taps(local.output.data, local.taps, s.c * s.oh * s.ow);
  }
}

}  // namespace
}  // namespace convkit
