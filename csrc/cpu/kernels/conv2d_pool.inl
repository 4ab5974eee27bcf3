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
  for (int64_t i = 0; i < count; ++i) taps[i] = values[i] <= 0 ? kDeadTap : taps[i];
}

// `sums`: the convolution's output rows from `row` on, of image n and channels [oc, oc + ocs).
struct PoolBand {
  View4d<const float> sums;
  int64_t n, row, rows, oc, ocs;
};

void store_pooled(const Conv2dPool& pool, const PoolBand& band, float* scratch) {
  const Pool2dShape& whole = pool.shape;
  MaxPool2d local{whole, band.sums, {}, nullptr};
  local.shape.n = 1, local.shape.c = band.ocs, local.shape.ih = band.rows;
  const int64_t first = band.row / whole.stride_h;
  local.shape.oh = min(whole.oh - first, ceil_div(band.rows, whole.stride_h));
  const View4d<float>& y = pool.output;
  uint8_t* local_taps = reinterpret_cast<uint8_t*>(scratch + whole.ow * band.ocs);
  for (int64_t oh = 0; oh < local.shape.oh; ++oh) {
    // One pooled row, [ow, ocs] in scratch: its row stride is 0, so that the kernel writes every row there.
    local.output = {scratch, 0, 1, 0, band.ocs};
    local.taps = pool.taps ? local_taps : nullptr;
    max_pool2d_channels_last_row(local, 0, oh);
    if (pool.taps && pool.relu_taps) mark_dead_taps(scratch, local_taps, whole.ow * band.ocs);
    const int64_t out = band.n * y.n + band.oc * y.c + (first + oh) * y.h;
    if (y.c == 1) {
      for (int64_t ow = 0; ow < whole.ow; ++ow) {
        std::memcpy(y.data + out + ow * y.w, scratch + ow * band.ocs, band.ocs * sizeof(float));
        if (pool.taps) std::memcpy(pool.taps + out + ow * y.w, local_taps + ow * band.ocs, band.ocs);
      }
    } else {
      for (int64_t c = 0; c < band.ocs; c += kLanes)
        transpose_copy(scratch + c, band.ocs, y.data + out + c * y.c, y.c, whole.ow, min(kLanes, band.ocs - c));
      for (int64_t c = 0; pool.taps && c < band.ocs; ++c)
        for (int64_t ow = 0; ow < whole.ow; ++ow) pool.taps[out + c * y.c + ow] = local_taps[ow * band.ocs + c];
    }
  }
}

}  // namespace
}  // namespace convkit
