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

// x = tiles of filters times tiles of products, y = groups, z = splits.
template <typename Tile, typename T>
Grid backward_weight_grid(const ConvGemm<T, float>& p) {
  const int64_t products = int64_t{p.channels} * p.phases[0].kh * p.phases[0].kw;
  return tile_grid<Tile>(p.filters, products, p.groups, p.splits);
}

}  // namespace convkit::cuda
