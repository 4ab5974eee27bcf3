// The kernel of conv2d_mma.cu and conv2d_wgmma.cu, whose tiles differ in how they multiply.
#pragma once

#include "cuda/conv2d_ffma.cuh"
#include "cuda/conv2d_gemm_grid.cuh"
#include "cuda/conv2d_mma.cuh"
#include "cuda/conv2d_patches.cuh"
#include "cuda/conv2d_pooled.cuh"
#include "cuda/launch.cuh"

namespace convkit::cuda {

// The words of four lanes side by side, transposed: a lane gets the same word of all four.
__device__ inline void transpose_quad(unsigned (&words)[4]) {
  const int lane = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int step = 1; step < 4; step *= 2) {
    const bool upper = lane & step;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & step) continue;
      const unsigned other = __shfl_xor_sync(kFullWarp, upper ? words[i] : words[i + step], step);
      (upper ? words[i] : words[i + step]) = other;
    }
  }
}

// The thread's sums to the output, one by one.
template <typename Tile, typename T>
__device__ void store_sums(const ConvGemm<T>& p, const typename Tile::Shared& shared, int first_column,
                           const Finish& finish, const typename Tile::Sums& sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 2 * Tile::kRowTiles; ++i) {
    const int64_t at = shared.output[Tile::first_row() + 8 * i + lane / 4];
#pragma unroll
    for (int j = 0; j < 2 * Tile::kColumnTiles; ++j) {
      const int filter = first_column + Tile::first_column() + j / 2 * 8 + lane % 4 * 2 + j % 2;
      if (at < 0 || filter >= p.filters) continue;
      T& output = p.output.data[at + filter * p.output.c];
      const float before = sizeof(T) == 4 && finish.add ? static_cast<float>(output) : 0.0f;  // 16 bits: all in one
      const float bias = p.bias ? static_cast<float>(p.bias[static_cast<int>(blockIdx.y) * p.filters + filter]) : 0.0f;
      output = T(finish(sums[i / 2][j / 2][i % 2 * 2 + j % 2], before, bias));
    }
  }
}

// The same, 16 bytes of filters at once: the four lanes that have sums of a row exchange them.
template <typename Tile, typename T>
__device__ void store_vectors(const ConvGemm<T>& p, const typename Tile::Shared& shared, int first_column,
                              const Finish& finish, const typename Tile::Sums& sums) {
  constexpr int kTogether = 8 / static_cast<int>(sizeof(T));  // tiles of 8 columns whose sums four words hold
  const int lane = static_cast<int>(threadIdx.x) % 32, quarter = lane % 4;
  const auto bias_of = [&](int filter) {
    return p.bias && filter < p.filters ? static_cast<float>(p.bias[static_cast<int>(blockIdx.y) * p.filters + filter])
                                        : 0.0f;
  };
#pragma unroll
  for (int j = 0; j < Tile::kColumnTiles; j += kTogether) {
    const int column = first_column + Tile::first_column() + 8 * j;
    // Of the sums as they are in 16 bits, which are never added to, and as they are stored in float32.
    const int from = column + 2 * quarter,
              filter = column + (sizeof(T) == 2 ? 8 * quarter : quarter % 2 * 8 + quarter / 2 * 4);
    float bias[8];
#pragma unroll
    for (int b = 0; b < 8; ++b) bias[b] = bias_of(sizeof(T) == 2 ? from + b / 2 * 8 + b % 2 : filter + b % 4);
#pragma unroll
    for (int i = 0; i < 2 * Tile::kRowTiles; ++i) {
      const int64_t at = shared.output[Tile::first_row() + 8 * i + lane / 4];
      const auto sum = [&](int tile, int b) { return sums[i / 2][j + tile][i % 2 * 2 + b]; };
      unsigned words[4];
      if constexpr (sizeof(T) == 2) {
#pragma unroll
        for (int tile = 0; tile < 4; ++tile) {
          const T low(finish(sum(tile, 0), 0.0f, bias[2 * tile]));
          const T high(finish(sum(tile, 1), 0.0f, bias[2 * tile + 1]));
          words[tile] = low.bits | static_cast<unsigned>(high.bits) << 16;
        }
        transpose_quad(words);
      } else {
#pragma unroll
        for (int b = 0; b < 2; ++b) {
          const bool odd = quarter % 2;
          const float other = __shfl_xor_sync(kFullWarp, odd ? sum(0, b) : sum(1, b), 1);
          words[b] = __float_as_uint(odd ? other : sum(0, b)), words[2 + b] = __float_as_uint(odd ? sum(1, b) : other);
        }
      }
      if (at < 0 || filter >= p.filters) continue;
      uint4& output = *reinterpret_cast<uint4*>(p.output.data + at + filter);
      if constexpr (sizeof(T) == 4) {
        const uint4 before = finish.add ? output : uint4{};
        const auto done = [&](unsigned word, unsigned add, float b) {
          return __float_as_uint(finish(__uint_as_float(word), __uint_as_float(add), b));
        };
        output = {done(words[0], before.x, bias[0]), done(words[1], before.y, bias[1]),
                  done(words[2], before.z, bias[2]), done(words[3], before.w, bias[3])};
      } else {
        output = {words[0], words[1], words[2], words[3]};
      }
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
    mma_main_loop<Tile>(shared, loader, depth, chunk, [&](typename Tile::Sums& sums, const Chunk& done) {
      mend_chunk(sums, done);
      const Finish finish{done.begin > 0, done.last, p.relu};
      if (p.store == StoreOrder::kFilters)
        store_vectors<Tile>(p, shared, here(first_column), finish, sums);
      else
        store_sums<Tile>(p, shared, here(first_column), finish, sums);
      clear(sums);
    });
  }
}

template <typename Tile, int Vector, bool Pooled, typename T = typename Tile::Element>
int launch_kernel(const ConvGemm<T>& p, void* stream) {
  return launch(conv2d_mma_kernel<Tile, Vector, Pooled>, gemm_grid<Tile>(p), stream, p);
}

}  // namespace convkit::cuda
