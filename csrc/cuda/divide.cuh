// Division where most numbers are small.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace convkit::cuda {

// A division of 64-bit numbers takes some hundred instructions, one of 32-bit numbers twenty.
__device__ inline int64_t divide(int64_t& remainder, int64_t divisor) {
  int64_t quotient;
  if (((remainder | divisor) >> 32) == 0)
    quotient = static_cast<uint32_t>(remainder) / static_cast<uint32_t>(divisor);
  else
    quotient = remainder / divisor;
  remainder -= quotient * divisor;
  return quotient;
}

}  // namespace convkit::cuda
