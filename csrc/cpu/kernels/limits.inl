// What the machine can do at most: the kernels behind the roofline of `convkit bench`.
#pragma once

#include "cpu/kernels/limits.h"
#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

// More chains than the FMA latency times the units that any current core has, fewer than the registers of AVX2.
constexpr int kChains = 12;

// `steps` multiply-adds in each of kChains vectors, all in registers. The result depends on every one of them.
float multiply_add(int64_t steps) {
  Vec chains[kChains];
  for (int c = 0; c < kChains; ++c) chains[c] = broadcast(static_cast<float>(c));  // all different: none is left out
  const Vec factor = broadcast(0.5f), addend = broadcast(1.0f);
  for (int64_t i = 0; i < steps; ++i)
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) chains[c] = chains[c] * factor + addend;
  Vec sum{};
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) sum += chains[c];
  return sum[0];
}

// Reads `count` floats; `count` is a multiple of 8 vectors.
float read(const float* data, int64_t count) {
  Vec sums[8] = {};
  for (int64_t i = 0; i < count; i += 8 * kLanes)
    for (int j = 0; j < 8; ++j) sums[j] += load(data + i + j * kLanes);
  for (int j = 1; j < 8; ++j) sums[0] += sums[j];
  return sums[0][0];
}

}  // namespace
}  // namespace convkit
