// A linear layer on so few rows that reading the weight decides its time.
#pragma once

#include "cpu/kernels/by_dtype.h"

namespace convkit {

constexpr int kLinearRows = 4;  // as many rows share one read of the weight; more are a matrix product

template <typename T>
struct LinearRows {
  const T* input;   // [rows, in_features]
  const T* weight;  // [out_features, in_features], in_features contiguous
  int64_t weight_row;
  const float* bias;  // [out_features] or null
  T* output;          // [rows, out_features]
  int64_t rows, in_features, out_features;
  bool relu;
};

template <typename T>
struct LinearFunctions {
  void (*rows)(const LinearRows<T>& problem, int64_t begin, int64_t end);  // output features [begin, end)
};
using LinearKernels = ByDtype<LinearFunctions>;

}  // namespace convkit
