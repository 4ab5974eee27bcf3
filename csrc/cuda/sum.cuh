// Sums of products as convkit keeps them: 16-bit types and float32 in float32, in chains of bounded length.
#pragma once

#include <type_traits>

#include "cuda/intrinsics.cuh"

namespace convkit::cuda {

template <typename T>
using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;

// A single chain of thousands of additions errs many times as much as short ones that are added up.
template <typename S>
class ChainedSum {
 public:
  __device__ void add(S term) {
    chain_ += term;
    if (++length_ == kChain) total_ += chain_, chain_ = 0, length_ = 0;
  }
  __device__ S total() const { return total_ + chain_; }

 private:
  static constexpr int kChain = 128;
  S chain_ = 0, total_ = 0;
  int length_ = 0;
};

// The sum over all threads of a block of whole warps, in an order that is always the same; in thread 0.
template <typename S>
__device__ S block_sum(S value) {
  auto& sums = shared_memory<S[32]>();
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) value += __shfl_xor_sync(kFullWarp, value, bits);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  S total = 0;
  if (threadIdx.x == 0)
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += sums[warp];
  __syncthreads();  // the next sum may begin
  return total;
}

}  // namespace convkit::cuda
