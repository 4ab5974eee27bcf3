// The blocks of the kernels of conv2d_gemm.h.
#pragma once

#include "cuda/conv2d_gemm.h"
#include "cuda/launch.cuh"

namespace convkit::cuda {

template <typename Tile>
Grid tile_grid(int64_t rows, int64_t columns, int64_t groups, int64_t parts) {
  const int64_t tiles = ceil_div(rows, Tile::kRows) * ceil_div(columns, Tile::kColumns);
  return {{static_cast<unsigned>(tiles), static_cast<unsigned>(groups), static_cast<unsigned>(parts)},
          Tile::kThreads,
          sizeof(typename Tile::Shared)};
}

// x = tiles of rows times tiles of columns, y = groups, z = phases times splits.
template <typename Tile, typename T>
Grid gemm_grid(const ConvGemm<T>& p) {
  int64_t rows = 0;
  for (int i = 0; i < p.phase_count; ++i) rows = max(rows, phase_rows(p, p.phases[i]));
  return tile_grid<Tile>(rows, p.filters, p.groups, int64_t{p.phase_count} * p.splits);
}

// What a block of that grid computes, columns fastest along x and splits fastest along z: rows and columns from the
// first on, of a phase, over `depth` products from `begin` on.
template <typename Tile>
struct GemmBlock {
  GemmPhase phase;
  int64_t first_row;
  int first_column, split, begin, depth;

  template <typename T>
  __device__ explicit GemmBlock(const ConvGemm<T>& p) : phase(p.phases[blockIdx.z / p.splits]) {
    const int column_tiles = (p.filters + Tile::kColumns - 1) / Tile::kColumns;
    first_row = int64_t{blockIdx.x / column_tiles} * Tile::kRows;
    first_column = static_cast<int>(blockIdx.x % column_tiles) * Tile::kColumns;
    const int whole = static_cast<int>(round_up(p.channels * phase.kh * phase.kw, Tile::kDepth));
    split = blockIdx.z % p.splits;
    begin = split * p.chunk;
    depth = p.splits > 1 ? static_cast<int>(clamp(whole - begin, 0, p.chunk)) : whole;
  }
};

// x = tiles of filters times tiles of products, y = groups, z = splits.
template <typename Tile, typename T>
Grid backward_weight_grid(const ConvGemm<T, float>& p) {
  const int64_t products = int64_t{p.channels} * p.phases[0].kh * p.phases[0].kw;
  return tile_grid<Tile>(p.filters, products, p.groups, p.splits);
}

}  // namespace convkit::cuda
