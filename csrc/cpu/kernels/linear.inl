// A linear layer on a few rows reads every weight once and uses it that often: bandwidth decides, so the weight is read
// where it lies and nothing is packed. Each output is a dot product; kVecs vectors of it are summed side by side.
#pragma once

#include "cpu/kernels/linear.h"
#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

template <int Rows>
void linear_dot(const LinearRows& p, int64_t out) {
  constexpr int kVecs = Rows <= 2 ? 4 : 2;
  constexpr int64_t kStep = kVecs * kLanes;
  constexpr int64_t kChain = 256 * kStep;  // additions to one lane before it is added to the total
  const float* w = p.weight + out * p.weight_row;
  float total[Rows] = {};
  for (int64_t begin = 0; begin < p.in_features; begin += kChain) {
    const int64_t end = begin + kChain < p.in_features ? begin + kChain : p.in_features;
    Vec sum[Rows][kVecs] = {};
    int64_t k = begin;
    for (; k + kStep <= end; k += kStep) {
      for (int v = 0; v < kVecs; ++v) {
        const Vec column = load(w + k + v * kLanes);
        for (int row = 0; row < Rows; ++row)
          sum[row][v] += column * load(p.input + row * p.in_features + k + v * kLanes);
      }
    }
    for (int row = 0; row < Rows; ++row) {
      float part = 0;
      for (int64_t i = k; i < end; ++i) part += w[i] * p.input[row * p.in_features + i];
      Vec lanes = sum[row][0];
      for (int v = 1; v < kVecs; ++v) lanes += sum[row][v];
      for (int lane = 0; lane < kLanes; ++lane) part += lanes[lane];
      total[row] += part;
    }
  }
  for (int row = 0; row < Rows; ++row) {
    float value = total[row];
    if (p.bias) value += p.bias[out];
    p.output[row * p.out_features + out] = p.relu && value < 0 ? 0.0f : value;
  }
}

void linear_rows(const LinearRows& p, int64_t begin, int64_t end) {
  static_assert(kLinearRows == 4);
  for (int64_t out = begin; out < end; ++out) {
    switch (p.rows) {
      case 1:
        linear_dot<1>(p, out);
        break;
      case 2:
        linear_dot<2>(p, out);
        break;
      case 3:
        linear_dot<3>(p, out);
        break;
      default:
        linear_dot<4>(p, out);
    }
  }
}

}  // namespace
}  // namespace convkit
