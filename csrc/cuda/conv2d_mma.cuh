// Tiles of products on tensor cores, for conv2d_mma.cu and conv2d_mma_backward_weight.cu.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/conv2d_gemm.h"
#include "cuda/intrinsics.cuh"

namespace convkit::cuda {

// How operands are multiplied: as they are (16-bit types), rounded to TF32, or as float32 in two TF32 parts.
enum class MmaTerms { kOne, kThree };

// A tile of one operand in shared memory, `Lines` rows or columns by Depth products: products side by side
// (DepthInner), or lines. The pitch spreads the lanes of a fragment over the banks.
template <typename T, int Lines, int Depth, bool DepthInner>
struct MmaOperand {
  static constexpr bool kDepthInner = DepthInner;
  static constexpr int kLines = Lines;
  static constexpr int kHalf = 16 / static_cast<int>(sizeof(T));  // of the products of an instruction
  static constexpr int kPitch = DepthInner ? Depth + 16 / static_cast<int>(sizeof(T)) : Lines + 8;
  T data[(DepthInner ? Lines : Depth) * kPitch];

  __device__ T* at(int line, int k) { return data + (DepthInner ? line * kPitch + k : k * kPitch + line); }
  __device__ const T* at(int line, int k) const { return const_cast<MmaOperand*>(this)->at(line, k); }

  // A fragment of 16 lines for the left operand.
  __device__ void left(unsigned (&a)[4], int line, int k) const {
    const int lane = threadIdx.x % 32, i = lane / 8, r = lane % 8;
    if constexpr (DepthInner) {  // matrices: lines 0 to 7, 8 to 15, and both 16 bytes further
      ldmatrix_x4<false>(a, at(line + i % 2 * 8 + r, k + i / 2 * kHalf));
    } else if constexpr (sizeof(T) == 2) {
      ldmatrix_x4<true>(a, at(line + i % 2 * 8, k + i / 2 * kHalf + r));
    } else {
      const int g = lane / 4, t = lane % 4;
      a[0] = __float_as_uint(*at(line + g, k + t)), a[1] = __float_as_uint(*at(line + g + 8, k + t));
      a[2] = __float_as_uint(*at(line + g, k + t + 4)), a[3] = __float_as_uint(*at(line + g + 8, k + t + 4));
    }
  }

  // Two fragments of 8 lines each for the right operand: b[0] and b[1], b[2] and b[3].
  __device__ void right(unsigned (&b)[4], int line, int k) const {
    const int lane = threadIdx.x % 32, i = lane / 8, r = lane % 8;
    if constexpr (DepthInner) {  // matrices: 16 bytes of products, the next 16, and both 8 lines further
      ldmatrix_x4<false>(b, at(line + i / 2 * 8 + r, k + i % 2 * kHalf));
    } else if constexpr (sizeof(T) == 2) {
      ldmatrix_x4<true>(b, at(line + i / 2 * 8, k + i % 2 * kHalf + r));
    } else {
      const int g = lane / 4, t = lane % 4;
      b[0] = __float_as_uint(*at(line + g, k + t)), b[1] = __float_as_uint(*at(line + g, k + t + 4));
      b[2] = __float_as_uint(*at(line + g + 8, k + t)), b[3] = __float_as_uint(*at(line + g + 8, k + t + 4));
    }
  }
};

// x as the sum of two TF32 numbers, but for what is below the second: the tensor core cuts it there, and as the first
// is rounded, the second is as often above zero as below. One of them is not finite where x is not, or where the first
// overflows: see mend().
__device__ inline void split_tf32(unsigned x, unsigned& large, unsigned& small) {
  large = (x + 0x1000) & 0xFFFFE000;
  small = __float_as_uint(__uint_as_float(x) - __uint_as_float(large));
}

// A warp takes half of the rows, 64 at most, and half of the columns; but 32 columns where the total, or what is loaded
// by way of registers, needs place.
template <typename T, int Rows, int Columns, bool RowsInner, bool ColumnsInner, MmaTerms Terms = MmaTerms::kOne,
          int WarpColumns = Terms == MmaTerms::kThree ? 32 : Columns / 2>
struct MmaTile {
  using Element = T;
  static constexpr int kRows = Rows, kColumns = Columns;
  static constexpr int kDepth = 64 / static_cast<int>(sizeof(T));  // of a step
  static constexpr int kStep = 32 / static_cast<int>(sizeof(T));   // of an instruction
  static constexpr int kStages = 3;
  static constexpr bool kThreeTerms = Terms == MmaTerms::kThree;
  static constexpr int kWarpRows = Rows / 2;
  static constexpr int kThreads = 2 * (Columns / WarpColumns) * 32;
  static constexpr int kRowTiles = kWarpRows / 16, kColumnTiles = WarpColumns / 8;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  static constexpr int kBlocks = 1;  // as shared memory has it
#else
  // That should share a multiprocessor: what registers allow.
  static constexpr int kBlocks = (Columns == 64 ? 3 : 2) - (kThreeTerms && Rows == 128);
#endif

  struct Stage {
    alignas(16) MmaOperand<T, Rows, kDepth, !RowsInner> a;
    alignas(16) MmaOperand<T, Columns, kDepth, !ColumnsInner> b;
  };
  struct Shared {
    Stage stage[kStages];
    int64_t output[Rows];
    float bias[Columns];
  };
  static_assert(sizeof(Shared) <= 64 * 1024);  // what a block may have on every architecture

  using Sums = float[kRowTiles][kColumnTiles][4];

  static __device__ int first_row() { return static_cast<int>(threadIdx.x) / 32 % 2 * kWarpRows; }
  static __device__ int first_column() { return static_cast<int>(threadIdx.x) / 64 * WarpColumns; }
  // Of the thread's i-th row of sums.
  static __device__ int row(int i) { return first_row() + 8 * i + static_cast<int>(threadIdx.x) % 32 / 4; }

  static __device__ void multiply(const Stage& stage, Sums& sums) {
#pragma unroll
    for (int k = 0; k < kDepth; k += kStep) {
      unsigned b[kColumnTiles / 2][4];
#pragma unroll
      for (int j = 0; j < kColumnTiles / 2; ++j) stage.b.right(b[j], first_column() + 16 * j, k);
      if constexpr (kThreeTerms)
        multiply_three(stage, k, b, sums);
      else
        multiply_one(stage, k, b, sums);
    }
  }

 private:
  static __device__ void multiply_one(const Stage& stage, int k, unsigned (&b)[kColumnTiles / 2][4], Sums& sums) {
    if constexpr (sizeof(T) == 4) round(&b[0][0], kColumnTiles * 2);
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      unsigned a[4];
      stage.a.left(a, first_row() + 16 * i, k);
      if constexpr (sizeof(T) == 4) round(a, 4);
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) {
        const unsigned right[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
        if constexpr (sizeof(T) == 4)
          mma_tf32(sums[i][j], a, right);
        else
          mma<T>(sums[i][j], a, right);
      }
    }
  }

  static __device__ void multiply_three(const Stage& stage, int k, const unsigned (&b)[kColumnTiles / 2][4],
                                        Sums& sums) {
    unsigned large[kColumnTiles][2], small[kColumnTiles][2];
#pragma unroll
    for (int j = 0; j < kColumnTiles; ++j)
#pragma unroll
      for (int r = 0; r < 2; ++r) split_tf32(b[j / 2][j % 2 * 2 + r], large[j][r], small[j][r]);
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      unsigned a[4], a_large[4], a_small[4];
      stage.a.left(a, first_row() + 16 * i, k);
#pragma unroll
      for (int r = 0; r < 4; ++r) split_tf32(a[r], a_large[r], a_small[r]);
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) mma_tf32(sums[i][j], a_small, large[j]);
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) mma_tf32(sums[i][j], a_large, small[j]);
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) mma_tf32(sums[i][j], a_large, large[j]);
    }
  }

  static __device__ void round(unsigned* x, int count) {
#pragma unroll
    for (int i = 0; i < count; ++i) x[i] = to_tf32(__uint_as_float(x[i]));
  }
};

template <typename Sums>
__device__ void clear(Sums& sums) {
#pragma unroll
  for (auto& row : sums)
#pragma unroll
    for (auto& tile : row)
#pragma unroll
      for (float& sum : tile) sum = 0.0f;
}

// Adds the sums to the total and clears them.
template <typename Sums>
__device__ void promote(Sums& sums, Sums& total) {
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(sums) / sizeof(sums[0])); ++i)
#pragma unroll
    for (int j = 0; j < static_cast<int>(sizeof(sums[0]) / sizeof(sums[0][0])); ++j)
#pragma unroll
      for (int r = 0; r < 4; ++r) total[i][j][r] += sums[i][j][r], sums[i][j][r] = 0.0f;
}

// Three terms make a NaN of an infinity. exact(row, column) sums again, one product after another, what is NaN: nothing
// in general, so that speed is no matter. Rows and columns are those of the tile.
template <typename Tile, typename Exact>
__device__ void mend(typename Tile::Sums& sums, const Exact& exact) {
  constexpr int kColumns = 4 * Tile::kColumnTiles, kCount = Tile::kRowTiles * kColumns;
  static_assert(kCount <= 64);
  uint64_t broken = 0;
#pragma unroll
  for (int e = 0; e < kCount; ++e) {
    const float sum = sums[e / kColumns][e % kColumns / 4][e % 4];
    broken |= static_cast<uint64_t>(sum != sum) << e;
  }
#pragma unroll 1
  for (int e = 0; broken != 0; ++e, broken >>= 1) {
    if (!(broken & 1)) continue;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int row = Tile::first_row() + e / kColumns * 16 + e % 4 / 2 * 8 + lane / 4;
    const int column = Tile::first_column() + e % kColumns / 4 * 8 + lane % 4 * 2 + e % 2;
    const float sum = exact(row, column);
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (i == e) sums[i / kColumns][i % kColumns / 4][i % 4] = sum;
  }
}

// Products that a chunk sums over, counted from the first of the loop.
struct Chunk {
  int begin, end;
  bool last;
};

// Sums over `depth` products while the loader fetches those kStages - 1 steps ahead, and hands the sums of each chunk
// to flush(sums, chunk), which clears them: once at least.
template <typename Tile, typename Loader, typename Flush>
__device__ void mma_main_loop(typename Tile::Shared& shared, Loader& loader, int depth, int chunk, const Flush& flush) {
  constexpr int kAhead = Tile::kStages - 1;
  const int steps = (depth + Tile::kDepth - 1) / Tile::kDepth, chunk_steps = chunk / Tile::kDepth;
  for (int i = 0; i < kAhead; ++i) {
    if (i < steps) loader.load(shared.stage[i]), loader.finish_load(shared.stage[i]);
    cp_async_commit();
  }
  if (steps == 0) __syncthreads();  // with steps, theirs come before what the flush reads of shared memory
  typename Tile::Sums sums = {}, total = {};
  int step = 0, stage = 0, next = kAhead;
  do {
    const int begin = step * Tile::kDepth;
    const int stop = steps - step < chunk_steps ? steps : step + chunk_steps;
    while (step < stop) {
      cp_async_wait<kAhead - 1>();
      __syncthreads();
      const bool more = step + kAhead < steps;
      if (more) loader.load(shared.stage[next]);
      cp_async_commit();
      Tile::multiply(shared.stage[stage], sums);
      if (more) loader.finish_load(shared.stage[next]);
      stage = stage + 1 == Tile::kStages ? 0 : stage + 1;
      next = next + 1 == Tile::kStages ? 0 : next + 1;
      ++step;
      // Tensor cores cut their sums instead of rounding them, which float32's accuracy bears a few times only.
      if constexpr (Tile::kThreeTerms) promote(sums, total);
    }
    const Chunk done{begin, step * Tile::kDepth, step >= steps};
    if constexpr (Tile::kThreeTerms)
      flush(total, done);
    else
      flush(sums, done);
  } while (step < steps);
}

}  // namespace convkit::cuda
