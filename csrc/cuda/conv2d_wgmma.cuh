// Tiles of products on Hopper's tensor cores, for conv2d_wgmma.cu: four warps at a time (a warpgroup) start products of
// operands in shared memory and go on.
#pragma once

#include <cstdint>

#include "cuda/conv2d_gemm.h"
#include "cuda/intrinsics.cuh"

namespace convkit::cuda {

// A tile of one operand in shared memory, `Lines` rows or columns by 128 bytes of products. A row's eight vectors of 16
// bytes are permuted by the last bits of its number, so that equal vectors of eight rows lie in different banks.
template <typename T, int Lines>
struct WgmmaOperand {
  static constexpr int kRowBytes = 128;
  alignas(1024) unsigned char data[Lines * kRowBytes];

  __device__ T* at(int line, int k) {
    return reinterpret_cast<T*>(data + line * kRowBytes + (k * static_cast<int>(sizeof(T)) ^ line % 8 * 16));
  }
  __device__ uint64_t descriptor(int line) const { return wgmma_descriptor(data + line * kRowBytes); }
};

// A block is a warpgroup. Where Overlap, the products of a step are under way while those of the next are started,
// which takes a stage more.
template <typename T, int Rows, int Columns, int Stages, int Blocks, bool Overlap>
struct WgmmaTile {
  using Element = T;
  static constexpr int kRows = Rows, kColumns = Columns;
  static constexpr int kDepth = kChannelBytes / static_cast<int>(sizeof(T));  // of a step
  static constexpr int kStep = 32 / static_cast<int>(sizeof(T));              // of an instruction
  static constexpr int kStages = Stages, kLag = Overlap ? 1 : 0;
  static constexpr int kThreads = 128;
  static constexpr int kRowTiles = Rows / 64, kColumnTiles = Columns / 8;
  static constexpr int kBlocks = Blocks;  // that should share a multiprocessor

  struct Shared {
    WgmmaOperand<T, Rows + kMoreRows> a[kStages];
    WgmmaOperand<T, Columns> b[kStages];
    ArrivalBarrier arrival[kStages];  // of the columns
    int64_t output[Rows];
    float bias[Columns];
  };

  using Sums = float[kRowTiles][kColumnTiles][4];

  static __device__ int first_column() { return 0; }
  // Of the thread's i-th row of sums.
  static __device__ int row(int i) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    return i / 2 * 64 + warp * 16 + i % 2 * 8 + lane / 4;
  }

  // Starts to add the products of rows from `shift` on with the columns; wgmma_wait ends it.
  static __device__ void multiply(const WgmmaOperand<T, Rows + kMoreRows>& a, int shift,
                                  const WgmmaOperand<T, Columns>& b, Sums& sums) {
    constexpr int kBytes = static_cast<int>(sizeof(T));
    const uint64_t left = a.descriptor(shift), right = b.descriptor(0);
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < kDepth; k += kStep)
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i)
        wgmma<T, Columns>(sums[i], wgmma_advance(left, i * 64 * a.kRowBytes + k * kBytes),
                          wgmma_advance(right, k * kBytes));
    wgmma_commit();
  }
};

// The next of `count` numbers, round and round.
__device__ inline int next_of(int at, int count) { return at + 1 == count ? 0 : at + 1; }

// As mma_main_loop, for a loader of patches and of weights: patches serve `run` steps, one after another, each `shift`
// rows further; the first step is number `first` of its run.
template <typename Tile, typename Loader, typename Flush>
__device__ void wgmma_main_loop(typename Tile::Shared& shared, Loader& loader, int depth, int chunk, int first, int run,
                                int shift, const Flush& flush) {
  constexpr int kAhead = Tile::kStages - 1 - Tile::kLag;
  const int steps = depth / Tile::kDepth, chunk_steps = chunk / Tile::kDepth;
  // Of the step at hand: its columns, its patches, its number in the run; and of the step that is loaded.
  int stage = 0, slot = 0, tap = first, next_stage = 0, next_slot = 0, next_tap = first;
  unsigned parity = 0;  // of the rounds of stages
  const auto load = [&](bool patches) {
    if (threadIdx.x == 0) loader.load_weights(shared.arrival[next_stage], shared.b[next_stage]);
    if (patches) loader.load_patches(shared.a[next_slot]);
    next_stage = next_of(next_stage, Tile::kStages), next_tap = next_of(next_tap, run);
    if (next_tap == 0) next_slot = next_of(next_slot, Tile::kStages);
  };
  if (threadIdx.x == 0)
    for (ArrivalBarrier& arrival : shared.arrival) arrival.start();
  __syncthreads();
  for (int i = 0; i < kAhead; ++i) {
    if (i < steps) load(i == 0 || next_tap == 0);
    cp_async_commit();
  }
  typename Tile::Sums sums = {};
  int step = 0;
  do {
    const int begin = step * Tile::kDepth;
    const int stop = steps - step < chunk_steps ? steps : step + chunk_steps;
    for (; step < stop; ++step) {
      cp_async_wait<kAhead - 1>();
      shared.arrival[stage].wait(parity);
      if (tap == 0 || step == 0) loader.round(shared.a[slot]);
      fence_async_shared();
      __syncthreads();
      Tile::multiply(shared.a[slot], tap * shift, shared.b[stage], sums);
      if (step + kAhead < steps) load(next_tap == 0);
      cp_async_commit();
      wgmma_wait<Tile::kLag>();
      stage = next_of(stage, Tile::kStages), tap = next_of(tap, run);
      if (stage == 0) parity ^= 1;
      if (tap == 0) slot = next_of(slot, Tile::kStages);
    }
    wgmma_wait<0>();
#pragma unroll
    for (auto& row : sums) wgmma_settle(row);
    flush(sums, {begin, step * Tile::kDepth, step >= steps});
  } while (step < steps);
}

}  // namespace convkit::cuda
