// The work-horse: a tile of C (+)= A * B held in registers, Rows x (kTileVecs vectors). B is packed, one row of the
// tile's columns per reduction step; A is read in place, one float broadcast to a row of the tile. The reduction index
// runs through `outer` x `inner` contiguous runs of A, which is what a convolution's window is in memory: no im2col.
#pragma once

#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

// Rows x 2 vectors: with 32 registers 14 x 2 accumulators, with 16 registers 6 x 2, beside two of B and one broadcast.
constexpr int kTileVecs = 2;
constexpr int kTileCols = kTileVecs * kLanes;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileRows = 14;
#else
constexpr int kTileRows = 6;
#endif

struct GemmTile {
  const float* a;  // A(row, step) = a[row * a_row + o * a_outer + i * a_inner + k]
  int64_t a_row, a_outer, a_inner;
  int64_t outer, inner, run;  // steps = outer * inner * run
  bool split;                 // sum each of the outer runs apart: shorter chains of additions round less
  const float* b;             // [steps, kTileCols]
  float* c;                   // [rows, cols]
  int64_t c_row;
  int64_t cols;       // columns of C that exist, <= kTileCols
  bool accumulate;    // add to what C holds
  const float* bias;  // [cols, padded to kTileCols] or null: added last
  bool relu;
};

// step(vector, row, index in the row) for each vector of a tile.
template <int Rows, typename Step>
inline void for_each_vector(Vec (&tile)[Rows][kTileVecs], Step step) {
#pragma GCC unroll 16
  for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 4
    for (int v = 0; v < kTileVecs; ++v) step(tile[row][v], row, v);
}

// Adds what C holds and the bias, applies ReLU, stores. Each step runs over all registers: one branch a tile, not one a
// vector.
template <int Rows>
inline void finish_tile(Vec (&sum)[Rows][kTileVecs], const GemmTile& tile) {
  const bool full = tile.cols == kTileCols;
  float partial[Rows * kTileCols];  // a tile that hangs over the last column is finished here
  float* c = full ? tile.c : partial;
  const int64_t c_row = full ? tile.c_row : kTileCols;
  if (!full && tile.accumulate)
    for (int row = 0; row < Rows; ++row)
      std::memcpy(partial + row * kTileCols, tile.c + row * tile.c_row, tile.cols * sizeof(float));
  const auto each = [&](auto step) { for_each_vector(sum, step); };
  if (tile.accumulate) each([&](Vec& value, int row, int v) { value += load(c + row * c_row + v * kLanes); });
  if (tile.bias) each([&](Vec& value, int, int v) { value += load(tile.bias + v * kLanes); });
  if (tile.relu) each([&](Vec& value, int, int) { value = relu(value); });
  each([&](Vec& value, int row, int v) { store(c + row * c_row + v * kLanes, value); });
  if (!full)
    for (int row = 0; row < Rows; ++row)
      std::memcpy(tile.c + row * tile.c_row, partial + row * kTileCols, tile.cols * sizeof(float));
}

template <int Rows>
void gemm_tile(const GemmTile& tile) {
  Vec sum[Rows][kTileVecs] = {};
  alignas(kLanes * 4) float total[Rows * kTileCols];
  const float* b = tile.b;
  const int64_t a_row = tile.a_row;
  for (int64_t o = 0; o < tile.outer; ++o) {
    if (tile.split && o > 0)
      for_each_vector(sum, [&](Vec& value, int row, int v) {
        float* t = total + row * kTileCols + v * kLanes;
        store(t, o > 1 ? load(t) + value : value);
        value = Vec{};
      });
    for (int64_t i = 0; i < tile.inner; ++i) {
      const float* a = tile.a + o * tile.a_outer + i * tile.a_inner;
      for (int64_t k = 0; k < tile.run; ++k, ++a, b += kTileCols) {
        Vec column[kTileVecs];
#pragma GCC unroll 4
        for (int v = 0; v < kTileVecs; ++v) column[v] = load(b + v * kLanes);
#pragma GCC unroll 16
        for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
          for (int v = 0; v < kTileVecs; ++v) sum[row][v] += a[row * a_row] * column[v];
        }
      }
    }
  }
  if (tile.split && tile.outer > 1)
    for_each_vector(sum,
                    [&](Vec& value, int row, int v) { value = load(total + row * kTileCols + v * kLanes) + value; });
  finish_tile<Rows>(sum, tile);
}

typedef void GemmTileFunction(const GemmTile&);

template <int... Index>
constexpr auto make_gemm_tiles(std::integer_sequence<int, Index...>) {
  struct Table {
    GemmTileFunction* of_rows[sizeof...(Index)];
  };
  return Table{{gemm_tile<Index + 1>...}};
}

constexpr auto kGemmTiles = make_gemm_tiles(std::make_integer_sequence<int, kTileRows>{});

// Walks `rows` rows of A in tiles of equal height, as near as can be: 14 rows in tiles of at most 6 are 5 + 5 + 4.
inline void gemm_rows(GemmTile tile, int64_t rows) {
  for (int64_t tiles = (rows + kTileRows - 1) / kTileRows; tiles > 0; --tiles) {
    const int64_t height = (rows + tiles - 1) / tiles;
    kGemmTiles.of_rows[height - 1](tile);
    tile.a += height * tile.a_row;
    tile.c += height * tile.c_row;
    rows -= height;
  }
}

}  // namespace
}  // namespace convkit
