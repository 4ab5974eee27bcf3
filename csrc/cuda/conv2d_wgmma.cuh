// Tiles of products on Hopper's tensor cores: four warps at a time (a warpgroup) start products of operands in shared
// memory (wgmma) and go on; see conv2d_mma.cuh for those of a warp.
#pragma once

#include <cstdint>

#include "cuda/conv2d_gemm.h"
#include "cuda/intrinsics.cuh"

namespace convkit::cuda {

// A tile of one operand in shared memory, `Lines` rows or columns by 128 bytes of products. A row's eight vectors of 16
// bytes are permuted by the last bits of its number, so that equal vectors of eight rows lie in different banks.
//
// wgmma gives warp w of a warpgroup rows 16 w to 16 w + 15 of each of its `Blocks` blocks of 64. Lines are numbered so
// that the rows of a warp, and so of a thread, are neighbours: block after block within the warp.
template <typename T, int Lines, int Blocks>
struct WgmmaOperand {
  static constexpr int kRowBytes = 128;
  alignas(1024) unsigned char data[Lines * kRowBytes];

  static __device__ int row_of(int line) {
    constexpr int kOfWarpgroup = 64 * Blocks, kOfWarp = 16 * Blocks;
    const int warp = line % kOfWarpgroup / kOfWarp, block = line % kOfWarp / 16;
    return line / kOfWarpgroup * kOfWarpgroup + block * 64 + warp * 16 + line % 16;
  }

  __device__ T* at(int line, int k) {
    const int row = row_of(line);
    return reinterpret_cast<T*>(data + row * kRowBytes + (k * static_cast<int>(sizeof(T)) ^ row % 8 * 16));
  }

  // Of the matrix whose first row is `row`, a multiple of 8.
  __device__ uint64_t descriptor(int row) const { return wgmma_descriptor(data + row * kRowBytes); }
};

// A block's warpgroups take 128 of its rows and 128 of its columns each, at most. Where Overlap, the products of a step
// are under way while those of the next are started, which takes a stage more.
template <typename T, int Rows, int Columns, int Stages, int Blocks, bool Overlap, bool WeightsPastL1>
struct WgmmaTile {
  using Element = T;
  static constexpr bool kAsync = true, kThreeTerms = false;
  static constexpr bool kOverlap = Overlap, kWeightsPastL1 = WeightsPastL1;
  static constexpr int kRows = Rows, kColumns = Columns;
  static constexpr int kDepth = 128 / static_cast<int>(sizeof(T));  // of a step
  static constexpr int kStep = 32 / static_cast<int>(sizeof(T));    // of an instruction
  static constexpr int kStages = Stages;
  static constexpr int kWarpgroupRows = Rows > 128 ? 128 : Rows, kWarpgroupColumns = Columns > 128 ? 128 : Columns;
  static constexpr int kRowGroups = Rows / kWarpgroupRows;
  static constexpr int kThreads = kRowGroups * (Columns / kWarpgroupColumns) * 128;
  static constexpr int kRowTiles = kWarpgroupRows / 64, kColumnTiles = kWarpgroupColumns / 8;
  static constexpr int kBlocks = Blocks;  // that should share a multiprocessor

  struct Stage {
    WgmmaOperand<T, Rows, kRowTiles> a;
    WgmmaOperand<T, Columns, 1> b;
  };
  struct Shared {
    Stage stage[kStages];
    int64_t output[Rows];
  };

  using Sums = float[kRowTiles][kColumnTiles][4];

  static __device__ int warpgroup() { return static_cast<int>(threadIdx.x) / 128; }
  static __device__ int first_row() {
    return warpgroup() % kRowGroups * kWarpgroupRows + static_cast<int>(threadIdx.x) / 32 % 4 * (16 * kRowTiles);
  }
  static __device__ int first_column() { return warpgroup() / kRowGroups * kWarpgroupColumns; }

  // Starts to add the products of a stage, which wgmma_wait ends.
  static __device__ void multiply(const Stage& stage, Sums& sums) {
    constexpr int kBytes = static_cast<int>(sizeof(T));
    const uint64_t a = stage.a.descriptor(warpgroup() % kRowGroups * kWarpgroupRows);
    const uint64_t b = stage.b.descriptor(first_column());
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < kDepth; k += kStep)
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i)
        wgmma<T, kWarpgroupColumns>(sums[i], wgmma_advance(a, i * 64 * 128 + k * kBytes), wgmma_advance(b, k * kBytes));
    wgmma_commit();
  }
};

}  // namespace convkit::cuda
