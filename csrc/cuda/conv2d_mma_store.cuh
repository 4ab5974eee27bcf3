// From the sums of tensor cores' tiles to the output, for conv2d_mma.cu and conv2d_wgmma.cu.
#pragma once

#include "cuda/conv2d_ffma.cuh"
#include "cuda/conv2d_gemm.h"
#include "cuda/conv2d_pooled.cuh"
#include "cuda/intrinsics.cuh"

namespace convkit::cuda {

// A thread has sums of rows 8 apart: together, those of a window.
template <bool Pooled>
constexpr int kApart = Pooled ? 8 : 0;

// The bias of the columns of a tile, as the functions below take it after a barrier.
template <typename Tile, typename T>
__device__ void write_bias(const ConvGemm<T>& p, int first_column, typename Tile::Shared& shared) {
  for (int i = static_cast<int>(threadIdx.x); i < Tile::kColumns; i += Tile::kThreads) {
    const bool there = p.bias && first_column + i < p.filters;
    shared.bias[i] =
        there ? static_cast<float>(p.bias[static_cast<int>(blockIdx.y) * p.filters + first_column + i]) : 0.0f;
  }
}

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
    const int64_t at = shared.output[Tile::row(i)];
#pragma unroll
    for (int j = 0; j < 2 * Tile::kColumnTiles; ++j) {
      const int column = Tile::first_column() + j / 2 * 8 + lane % 4 * 2 + j % 2, filter = first_column + column;
      if (at < 0 || filter >= p.filters) continue;
      T& output = p.output.data[at + filter * p.output.c];
      const float before = sizeof(T) == 4 && finish.add ? static_cast<float>(output) : 0.0f;  // 16 bits: all in one
      output = T(finish(sums[i / 2][j / 2][i % 2 * 2 + j % 2], before, shared.bias[column]));
    }
  }
}

// The same, 16 bytes of filters at once: the four lanes that have sums of a row exchange them.
template <typename Tile, typename T>
__device__ void store_vectors(const ConvGemm<T>& p, const typename Tile::Shared& shared, int first_column,
                              const Finish& finish, const typename Tile::Sums& sums) {
  constexpr int kTogether = 8 / static_cast<int>(sizeof(T));  // tiles of 8 columns whose sums four words hold
  const int quarter = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int j = 0; j < Tile::kColumnTiles; j += kTogether) {
    // Of the sums as they are in 16 bits, which are never added to, and as they are stored.
    const int from = Tile::first_column() + 8 * j + 2 * quarter;
    const int to = Tile::first_column() + 8 * j + (sizeof(T) == 2 ? 8 * quarter : quarter % 2 * 8 + quarter / 2 * 4);
    float bias[8];
#pragma unroll
    for (int b = 0; b < 8; ++b) bias[b] = shared.bias[sizeof(T) == 2 ? from + b / 2 * 8 + b % 2 : to + b % 4];
    uint4 before[2 * Tile::kRowTiles] = {};  // all of them are loaded before the first is stored
    if (sizeof(T) == 4 && finish.add) {
#pragma unroll
      for (int i = 0; i < 2 * Tile::kRowTiles; ++i) {
        const int64_t at = shared.output[Tile::row(i)] + first_column + to;
        if (shared.output[Tile::row(i)] >= 0 && first_column + to < p.filters)
          before[i] = *reinterpret_cast<const uint4*>(p.output.data + at);
      }
    }
#pragma unroll
    for (int i = 0; i < 2 * Tile::kRowTiles; ++i) {
      const int64_t at = shared.output[Tile::row(i)];
      const auto sum = [&](int tile, int b) { return sums[i / 2][j + tile][i % 2 * 2 + b]; };
      unsigned words[4];
      if constexpr (sizeof(T) == 2) {
#pragma unroll
        for (int tile = 0; tile < 4; ++tile) {
          const float low = finish(sum(tile, 0), 0.0f, bias[2 * tile]);
          words[tile] = pack_pair<T>(low, finish(sum(tile, 1), 0.0f, bias[2 * tile + 1]));
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
      if (at < 0 || first_column + to >= p.filters) continue;
      uint4& output = *reinterpret_cast<uint4*>(p.output.data + at + first_column + to);
      if constexpr (sizeof(T) == 4) {
        const auto done = [&](unsigned word, unsigned add, float b) {
          return __float_as_uint(finish(__uint_as_float(word), __uint_as_float(add), b));
        };
        output = {done(words[0], before[i].x, bias[0]), done(words[1], before[i].y, bias[1]),
                  done(words[2], before[i].z, bias[2]), done(words[3], before[i].w, bias[3])};
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
    const int64_t at = shared.output[Tile::row(2 * i)];
#pragma unroll
    for (int j = 0; j < 2 * Tile::kColumnTiles; ++j) {
      const int column = Tile::first_column() + j / 2 * 8 + lane % 4 * 2 + j % 2, filter = first_column + column;
      if (at < 0 || filter >= p.filters) continue;
      T results[4];
#pragma unroll
      for (int tap = 0; tap < 4; ++tap)
        results[tap] = T(finish(sums[i + tap / 2][j / 2][tap % 2 * 2 + j % 2], 0.0f, shared.bias[column]));
      store_window(p, results, shared.output[Tile::row(2 * i + 1)], at + filter * p.output.c);
    }
  }
}

}  // namespace convkit::cuda
