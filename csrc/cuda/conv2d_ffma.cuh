// Register tiles of float32 multiply-adds, for conv2d_ffma.cu and conv2d_ffma_backward_weight.cu.
#pragma once

#include "cuda/conv2d_gemm.h"
#include "cuda/launch.cuh"

namespace convkit::cuda {

// A block computes Rows x Columns sums; a thread 8 x ThreadColumns of them, in 4 x 4 blocks 32 rows and 16 columns
// apart, so that the lanes of a warp read neighbouring 16 bytes of shared memory.
template <int Rows, int Columns, int ThreadColumns>
struct FfmaTile {
  static constexpr int kRows = Rows, kColumns = Columns;
  static constexpr int kDepth = 16;
  static constexpr int kThreadRows = 8, kThreadColumns = ThreadColumns;
  static constexpr int kThreads = Rows * Columns / (kThreadRows * kThreadColumns);
  static constexpr int kBlocks = Rows == Columns ? 512 / kThreads : 3;  // that should share a multiprocessor
  static constexpr int kPitch = Rows + 4;                               // transposed stores meet no bank twice
  static constexpr int kColumnPitch = Columns + 4;
  static_assert(Rows % 64 == 0 && Columns % (4 * kThreadColumns) == 0 && Rows <= kThreads);

  // All of them would take more registers than older GPUs have.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  static constexpr int kUnrolled = 8;
#else
  static constexpr int kUnrolled = kDepth;
#endif

  struct Shared {
    float a[2][kDepth][kPitch];
    float b[2][kDepth][kColumnPitch];
    int64_t output[Rows];  // offsets of the rows in the output, -1 beyond the last
  };

  static_assert(sizeof(Shared) <= 64 * 1024);  // what a block may have on every architecture

  // The first of the calling thread's rows and columns; the others are at +i and +32 +i, and at +j and +16 +j.
  static __device__ int first_row() {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    return warp % (Rows / 64) * 64 + lane / 4 * 4;
  }
  static __device__ int first_column() {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    return warp / (Rows / 64) * (4 * kThreadColumns) + lane % 4 * 4;
  }

  using Sums = float[kThreadRows][kThreadColumns];

  static __device__ void multiply(const Shared& shared, int buffer, Sums& sums) {
    const int row = first_row(), column = first_column();
#pragma unroll kUnrolled
    for (int k = 0; k < kDepth; ++k) {
      float a[kThreadRows], b[kThreadColumns];
#pragma unroll
      for (int i = 0; i < kThreadRows; i += 4)
        *reinterpret_cast<float4*>(a + i) = *reinterpret_cast<const float4*>(&shared.a[buffer][k][row + 8 * i]);
#pragma unroll
      for (int j = 0; j < kThreadColumns; j += 4)
        *reinterpret_cast<float4*>(b + j) = *reinterpret_cast<const float4*>(&shared.b[buffer][k][column + 4 * j]);
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i)
#pragma unroll
        for (int j = 0; j < kThreadColumns; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
    }
  }
};

// The same number, but not for the optimiser: what follows from it is computed here, not before the loop around this,
// where it would take registers from the sums.
__device__ inline int here(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

template <int Rows, int Columns>
__device__ void clear(float (&sums)[Rows][Columns]) {
#pragma unroll
  for (int i = 0; i < Rows; ++i)
#pragma unroll
    for (int j = 0; j < Columns; ++j) sums[i][j] = 0.0f;
}

template <int Rows, int Columns>
__device__ void add_sums(const float (&sums)[Rows][Columns], float (&total)[Rows][Columns]) {
#pragma unroll
  for (int i = 0; i < Rows; ++i)
#pragma unroll
    for (int j = 0; j < Columns; ++j) total[i][j] += sums[i][j];
}

// What becomes of a chunk's sums: added to the chunks before it, and finished after the last.
struct Finish {
  bool add, last;
  bool relu;

  __device__ float operator()(float sum, float before, float bias) const {
    if (add) sum = before + sum;
    if (last) {
      sum += bias;
      if (relu && sum < 0.0f) sum = 0.0f;
    }
    return sum;
  }
};

}  // namespace convkit::cuda
