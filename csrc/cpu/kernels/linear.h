// A linear layer on so few rows that reading the weight decides its time.
#pragma once

#include <cstdint>

namespace convkit {

constexpr int kLinearRows = 4;  // as many rows share one read of the weight; more are a matrix product

struct LinearRows {
  const float* input;   // [rows, in_features]
  const float* weight;  // [out_features, in_features], in_features contiguous
  int64_t weight_row;
  const float* bias;  // [out_features] or null
  float* output;      // [rows, out_features]
  int64_t rows, in_features, out_features;
  bool relu;
};

struct LinearKernels {
  void (*rows)(const LinearRows& problem, int64_t begin, int64_t end);  // output features [begin, end)
};

}  // namespace convkit
