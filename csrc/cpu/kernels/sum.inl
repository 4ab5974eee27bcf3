// Sums over pixels, for the gradient of a bias. Blocks are short, so that chains of float32 additions are; the caller
// adds up the blocks.
#pragma once

#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

constexpr int kSumChains = 4;  // cover the latency of an addition

// sums [channels] of pixels whose channels lie side by side.
void sum_channels_last(const float* x, int64_t pixels, int64_t pixel, int64_t channels, float* sums) {
  int64_t begin = 0;
  for (; begin + kSumChains * kLanes <= channels; begin += kSumChains * kLanes) {
    Vec sum[kSumChains] = {};
    for (int64_t i = 0; i < pixels; ++i)
      for (int v = 0; v < kSumChains; ++v) sum[v] += load(x + i * pixel + begin + v * kLanes);
    for (int v = 0; v < kSumChains; ++v) store(sums + begin + v * kLanes, sum[v]);
  }
  for_each_vector_of(channels - begin, [=](int64_t c, auto lanes) {
    Vec sum[kSumChains] = {};
    const float* p = x + begin + c;
    int64_t i = 0;
    for (; i + kSumChains <= pixels; i += kSumChains)
      for (int chain = 0; chain < kSumChains; ++chain) sum[chain] += lanes.load(p + (i + chain) * pixel);
    for (; i < pixels; ++i) sum[0] += lanes.load(p + i * pixel);
    lanes.store(sums + begin + c, (sum[0] + sum[1]) + (sum[2] + sum[3]));
  });
}

float sum_contiguous(const float* x, int64_t count) {
  Vec sum[kSumChains] = {};
  int64_t i = 0;
  for (; i + kSumChains * kLanes <= count; i += kSumChains * kLanes)
    for (int chain = 0; chain < kSumChains; ++chain) sum[chain] += load(x + i + chain * kLanes);
  for_each_vector_of(count - i, [&](int64_t j, auto lanes) { sum[0] += lanes.load(x + i + j); });
  const Vec all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  float total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += all[lane];
  return total;
}

}  // namespace
}  // namespace convkit
