// ReLU of one number of any real dtype.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "common/half.h"

namespace convkit::cuda {

// 16-bit floats are compared as the integers they are stored in: above the bits of -infinity are NaNs only.
__device__ inline bool is_below_zero(BFloat16 x) { return x.bits > 0x8000 && x.bits <= 0xFF80; }
__device__ inline bool is_below_zero(Half x) { return x.bits > 0x8000 && x.bits <= 0xFC00; }
template <typename T>
__device__ bool is_below_zero(T x) {
  if constexpr (std::is_unsigned_v<T>)
    return false;
  else
    return x < T(0);
}

__device__ inline bool is_zero(BFloat16 x) { return (x.bits & 0x7FFF) == 0; }
__device__ inline bool is_zero(Half x) { return (x.bits & 0x7FFF) == 0; }
template <typename T>
__device__ bool is_zero(T x) {
  return x == T(0);
}

// x <= 0, which a NaN is not.
template <typename T>
__device__ bool is_not_positive(T x) {
  return is_below_zero(x) || is_zero(x);
}

// As torch: a NaN and -0.0 stay what they are.
template <typename T>
__device__ T relu(T x) {
  return is_below_zero(x) ? T{} : x;
}

// The gradient passes where the result is not <= 0: for a NaN too.
template <typename T>
__device__ T relu_gradient(T grad_output, T result) {
  return is_not_positive(result) ? T{} : grad_output;
}

}  // namespace convkit::cuda
