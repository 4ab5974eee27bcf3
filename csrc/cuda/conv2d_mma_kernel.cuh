// The kernel of conv2d_mma.cu and conv2d_wgmma.cu, whose tiles differ in how they multiply.
#pragma once

#include "cuda/conv2d_ffma.cuh"
#include "cuda/conv2d_gemm_grid.cuh"
#include "cuda/conv2d_mma.cuh"
#include "cuda/conv2d_patches.cuh"
#include "cuda/conv2d_pooled.cuh"
#include "cuda/launch.cuh"

namespace convkit::cuda {

// The thread's sums to the output: two filters at once where they lie together.
template <typename Tile, bool Pairs, typename T>
__device__ void store_sums(const ConvGemm<T>& p, const typename Tile::Shared& shared, int first_column,
                           const Finish& finish, const typename Tile::Sums& sums) {
  constexpr int kLanes = Pairs ? 2 : 1;
  struct alignas(sizeof(T) * kLanes) Lanes {
    T lane[kLanes];
  };
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 2 * Tile::kRowTiles; ++i) {
    const int64_t at = shared.output[Tile::first_row() + 8 * i + lane / 4];
#pragma unroll
    for (int j = 0; j < 2 * Tile::kColumnTiles; j += kLanes) {
      const int filter = first_column + Tile::first_column() + j / 2 * 8 + lane % 4 * 2 + j % 2;
      if (at < 0 || filter >= p.filters) continue;
      Lanes& output = *reinterpret_cast<Lanes*>(p.output.data + at + filter * p.output.c);
      Lanes y{};
      if (sizeof(T) == 4 && finish.add) y = output;  // 16-bit sums stay in registers, all of them
#pragma unroll
      for (int b = 0; b < kLanes; ++b) {
        const float bias =
            p.bias ? static_cast<float>(p.bias[static_cast<int>(blockIdx.y) * p.filters + filter + b]) : 0.0f;
        const float sum = sums[i / 2][j / 2][i % 2 * 2 + (j + b) % 2];
        y.lane[b] = T(finish(sum, static_cast<float>(y.lane[b]), bias));
      }
      output = y;
    }
  }
}

// The thread's sums, pooled: four of a column are a window.
template <typename Tile, typename T>
__device__ void store_pooled(const ConvGemm<T>& p, const typename Tile::Shared& shared, int first_column,
                             const typename Tile::Sums& sums) {
  const Finish finish{false, true, p.relu};
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < Tile::kRowTiles; i += 2) {
    const int row = Tile::first_row() + 16 * i + lane / 4;
    const int64_t at = shared.output[row];
#pragma unroll
    for (int j = 0; j < 2 * Tile::kColumnTiles; ++j) {
      const int filter = first_column + Tile::first_column() + j / 2 * 8 + lane % 4 * 2 + j % 2;
      if (at < 0 || filter >= p.filters) continue;
      const float bias = p.bias ? static_cast<float>(p.bias[static_cast<int>(blockIdx.y) * p.filters + filter]) : 0.0f;
      T results[4];
#pragma unroll
      for (int tap = 0; tap < 4; ++tap)
        results[tap] = T(finish(sums[i + tap / 2][j / 2][tap % 2 * 2 + j % 2], 0.0f, bias));
      store_window(p, results, shared.output[row + 8], at + filter * p.output.c);
    }
  }
}

// The sum of the products begin to end of a row (pixel) and a column (filter), one after another.
template <bool Pooled>
__device__ float exact_sum(const ConvGemm<float>& p, const GemmPhase& phase, int64_t row, int column, int begin,
                           int end) {
  const Pixel at = row_pixel<kApart<Pooled>>(phase, row);
  if (at.n >= p.n) return 0.0f;
  const int top = at.h * p.stride_h + phase.top, left = at.w * p.stride_w + phase.left;
  const int depth = p.channels * phase.kh * phase.kw;
  const float* input = p.input.data + at.n * p.input.n + int64_t{blockIdx.y} * p.channels * p.input.c +
                       top * p.input.h + left * p.input.w;
  const float* weight = p.packed + phase.packed + (int64_t{blockIdx.y} * p.columns + column) * padded_depth(depth);
  float sum = 0.0f;
  for (int k = begin; k < end && k < depth && sum == sum; ++k) {
    const GemmTap tap = p.table[phase.table + k / p.vector];
    const bool inside = static_cast<unsigned>(top + tap.h) < static_cast<unsigned>(p.ih) &&
                        static_cast<unsigned>(left + tap.w) < static_cast<unsigned>(p.iw);
    sum = fmaf(inside ? input[tap.offset + k % p.vector * p.input.c] : 0.0f, weight[k], sum);
  }
  return sum;
}

// Pooled, the registers of one block less: single elements and the total of three terms take them.
template <typename Tile, int Vector, bool Pooled>
constexpr int kBlocks =
    Pooled && (Vector == 1 || Tile::kThreeTerms) && Tile::kBlocks > 1 ? Tile::kBlocks - 1 : Tile::kBlocks;

// Blocks: x = tiles of rows times tiles of columns (fastest), y = groups, z = phases times splits (fastest).
template <typename Tile, int Vector, bool Pooled, typename T = typename Tile::Element>
__global__ void __launch_bounds__(Tile::kThreads, (kBlocks<Tile, Vector, Pooled>))
    conv2d_mma_kernel(const ConvGemm<T> p) {
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if constexpr (Tile::kAsync) return;  // nor is it launched
#endif
  auto& shared = shared_memory<typename Tile::Shared>();
  const int split = blockIdx.z % p.splits;
  const GemmPhase phase = p.phases[blockIdx.z / p.splits];
  const int column_tiles = (p.filters + Tile::kColumns - 1) / Tile::kColumns;
  const int64_t first_row = int64_t{blockIdx.x / column_tiles} * Tile::kRows;
  const int first_column = static_cast<int>(blockIdx.x % column_tiles) * Tile::kColumns;
  if (first_row >= phase_rows(p, phase)) return;
  write_row_offsets<Tile::kRows, kApart<Pooled>>(p, phase, split, first_row, shared.output);
  const int whole = static_cast<int>(round_up(p.channels * phase.kh * phase.kw, Tile::kDepth));
  const int begin = split * p.chunk;
  const int depth = p.splits > 1 ? static_cast<int>(clamp(whole - begin, 0, p.chunk)) : whole;
  PatchLoader<Tile, Vector, Pooled> loader(p, phase, first_row, first_column, begin);
  const int chunk = sizeof(T) == 4 ? p.chunk : max(whole, Tile::kDepth);
  const auto mend_chunk = [&](typename Tile::Sums& sums, const Chunk& done) {
    if constexpr (Tile::kThreeTerms)
      mend<Tile>(sums, [&](int row, int column) {
        return exact_sum<Pooled>(p, phase, first_row + row, first_column + column, begin + done.begin,
                                 begin + done.end);
      });
  };
  if constexpr (Pooled && sizeof(T) == 2) {
    mma_main_loop<Tile>(shared, loader, depth, chunk, [&](typename Tile::Sums& sums, const Chunk& done) {
      if (done.last) store_pooled<Tile>(p, shared, here(first_column), sums);
    });
  } else if constexpr (Pooled) {
    typename Tile::Sums total = {};  // which has no other place
    mma_main_loop<Tile>(shared, loader, depth, chunk, [&](typename Tile::Sums& sums, const Chunk& done) {
      mend_chunk(sums, done);
      promote(sums, total);
      if (done.last) store_pooled<Tile>(p, shared, here(first_column), total);
    });
  } else {
    const bool pairs = p.store == StoreOrder::kFilters;
    mma_main_loop<Tile>(shared, loader, depth, chunk, [&](typename Tile::Sums& sums, const Chunk& done) {
      mend_chunk(sums, done);
      const Finish finish{done.begin > 0, done.last, p.relu};
      if (pairs)
        store_sums<Tile, true>(p, shared, here(first_column), finish, sums);
      else
        store_sums<Tile, false>(p, shared, here(first_column), finish, sums);
      clear(sums);
    });
  }
}

template <typename Tile, int Vector, bool Pooled, typename T = typename Tile::Element>
int launch_kernel(const ConvGemm<T>& p, void* stream) {
  return launch(conv2d_mma_kernel<Tile, Vector, Pooled>, gemm_grid<Tile>(p), stream, p);
}

}  // namespace convkit::cuda
