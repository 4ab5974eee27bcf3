// A linear layer on a few rows reads every weight once and uses it that often: bandwidth decides, so the weight is read
// where it lies and nothing is packed. Each output is a dot product.
#pragma once

#include "cpu/kernels/gemm_tile.inl"
#include "cpu/kernels/linear.h"
#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

// A vector of numbers in a register that multiplies another one: as many sums, or half as many, of two products each.
inline Vec load_numbers(const float* p) { return load(p); }
inline void multiply_add(Vec& sum, Vec a, Vec b) { sum += a * b; }
#if defined(__AVX512BF16__)
inline __m512bh load_numbers(const BFloat16* p) { return load_step(p); }
inline void multiply_add(Vec& sum, __m512bh a, __m512bh b) { sum = (Vec)_mm512_dpbf16_ps((__m512)sum, a, b); }
#else
inline Vec load_numbers(const BFloat16* p) { return load(p); }
#endif

template <int Rows, typename T>
void linear_dot(const LinearRows<T>& p, int64_t out) {
  constexpr int kVecs = Rows <= 2 ? 4 : 2;  // summed side by side
  constexpr int64_t kNumbers = kLanes * kStepNumbers<T>, kStep = kVecs * kNumbers;
  constexpr int64_t kChain = 256 * kStep;  // additions to one lane before it is added to the total
  const T* w = p.weight + out * p.weight_row;
  float total[Rows] = {};
  for (int64_t begin = 0; begin < p.in_features; begin += kChain) {
    const int64_t end = begin + kChain < p.in_features ? begin + kChain : p.in_features;
    Vec sum[Rows][kVecs];
#pragma GCC unroll 8
    for (int i = 0; i < Rows * kVecs; ++i) sum[i / kVecs][i % kVecs] = Vec{};
    int64_t k = begin;
    for (; k + kStep <= end; k += kStep) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) {
        const auto column = load_numbers(w + k + v * kNumbers);
#pragma GCC unroll 4
        for (int row = 0; row < Rows; ++row)
          multiply_add(sum[row][v], load_numbers(p.input + row * p.in_features + k + v * kNumbers), column);
      }
    }
#pragma GCC unroll 4
    for (int row = 0; row < Rows; ++row) {
      float part = 0;
      for (int64_t i = k; i < end; ++i) part += float(w[i]) * float(p.input[row * p.in_features + i]);
      Vec lanes = sum[row][0];
#pragma GCC unroll 4
      for (int v = 1; v < kVecs; ++v) lanes += sum[row][v];
      for (int lane = 0; lane < kLanes; ++lane) part += lanes[lane];
      total[row] += part;
    }
  }
  for (int row = 0; row < Rows; ++row) {
    float value = total[row];
    if (p.bias) value += p.bias[out];
    p.output[row * p.out_features + out] = T(p.relu && value < 0 ? 0.0f : value);
  }
}

template <int Rows, typename T>
void linear_outputs(const LinearRows<T>& p, int64_t begin, int64_t end) {
  for (int64_t out = begin; out < end; ++out) linear_dot<Rows>(p, out);
}

template <typename T>
void linear_rows(const LinearRows<T>& p, int64_t begin, int64_t end) {
  static_assert(kLinearRows == 4);
  constexpr decltype(&linear_rows<T>) kOfRows[] = {linear_outputs<1, T>, linear_outputs<2, T>, linear_outputs<3, T>,
                                                   linear_outputs<4, T>};
  kOfRows[p.rows - 1](p, begin, end);
}

}  // namespace
}  // namespace convkit
