// The work-horse: a tile of C (+)= A * B held in registers, Rows x (kTileVecs vectors). B is packed, one row of the
// tile's columns per reduction step; A is read in place, one float broadcast to a row of the tile. The reduction index
// runs through `outer` x `inner` contiguous runs of A, which is what a convolution's window is in memory: no im2col.
#pragma once

#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

// Rows x 2 vectors: with 32 registers 8 x 2 accumulators, with 16 registers 6 x 2, beside two of B and one broadcast.
// Where one vector has all columns, as many rows again keep the multiply-adds busy, and 9 rows, the taps of a 3x3
// window, are one tile.
constexpr int kTileVecs = 2;
constexpr int kTileCols = kTileVecs * kLanes;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileRows = 8, kNarrowRows = 14;
#else
constexpr int kTileRows = 6, kNarrowRows = 12;
#endif

struct GemmTile {
  const float* a;  // A(row, step) = a[row * a_row + o * a_outer + i * a_inner + k]
  int64_t a_row, a_outer, a_inner;
  int64_t outer, inner, run;           // steps = outer * inner * run
  int64_t missing_inner, missing_run;  // so much smaller is the last of the outer runs
  bool split;                          // sum each of the outer runs apart: shorter chains of additions round less
  const float* b;                      // B(step, column) = b[step * b_row + column], whole vectors of columns
  int64_t b_row = kTileCols;
  float* c;  // [rows, cols]
  int64_t c_row;
  int64_t cols;       // columns of C that exist, <= kTileCols
  bool accumulate;    // add to what C holds
  const float* bias;  // [cols, padded to kTileCols] or null: added last
  bool relu;
};

// step(vector, row, index in the row) for each vector of a tile.
template <int Rows, int Vecs, typename Step>
inline void for_each_vector(Vec (&tile)[Rows][Vecs], Step step) {
#pragma GCC unroll 16
  for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 4
    for (int v = 0; v < Vecs; ++v) step(tile[row][v], row, v);
}

// Adds what C holds and the bias, applies ReLU, stores. Each step runs over all registers: one branch a tile, not one a
// vector.
template <int Rows, int Vecs>
inline void finish_tile(Vec (&sum)[Rows][Vecs], const GemmTile& tile) {
  float* const c = tile.c;
  const int64_t c_row = tile.c_row, rest = tile.cols - (Vecs - 1) * kLanes;  // columns in the last vector
  const auto each = [&](auto step) { for_each_vector(sum, step); };
  const auto each_place = [&](auto whole, auto partial) {
    if (rest == kLanes)
      each([&](Vec& value, int row, int v) { whole(value, c + row * c_row + v * kLanes); });
    else
      each([&](Vec& value, int row, int v) {
        float* place = c + row * c_row + v * kLanes;
        v + 1 < Vecs ? whole(value, place) : partial(value, place);
      });
  };
  if (tile.accumulate)
    each_place([](Vec& value, float* place) { value += load(place); },
               [&](Vec& value, float* place) { value += load_first(place, rest); });
  if (tile.bias) each([&](Vec& value, int, int v) { value += load(tile.bias + v * kLanes); });
  if (tile.relu) each([&](Vec& value, int, int) { value = relu(value); });
  each_place([](Vec& value, float* place) { store_far(place, value); },
             [&](Vec& value, float* place) { store_first(place, value, rest); });
}

template <int Rows, int Vecs>
void gemm_tile(const GemmTile& tile) {
  Vec sum[Rows][Vecs] = {};
  alignas(kLanes * 4) float total[Rows * kTileCols];
  const float* b = tile.b;
  const int64_t a_row = tile.a_row, b_row = tile.b_row;
  for (int64_t o = 0; o < tile.outer; ++o) {
    if (tile.split && o > 0)
      for_each_vector(sum, [&](Vec& value, int row, int v) {
        float* t = total + row * kTileCols + v * kLanes;
        store(t, o > 1 ? load(t) + value : value);
        value = Vec{};
      });
    const bool last = o + 1 == tile.outer;
    const int64_t inner = tile.inner - (last ? tile.missing_inner : 0), run = tile.run - (last ? tile.missing_run : 0);
    for (int64_t i = 0; i < inner; ++i) {
      const float* a = tile.a + o * tile.a_outer + i * tile.a_inner;
      for (int64_t k = 0; k < run; ++k, ++a, b += b_row) {
        Vec column[Vecs];
#pragma GCC unroll 4
        for (int v = 0; v < Vecs; ++v) column[v] = load(b + v * kLanes);
#pragma GCC unroll 16
        for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
          for (int v = 0; v < Vecs; ++v) sum[row][v] += a[row * a_row] * column[v];
        }
      }
    }
  }
  if (tile.split && tile.outer > 1)
    for_each_vector(sum,
                    [&](Vec& value, int row, int v) { value = load(total + row * kTileCols + v * kLanes) + value; });
  finish_tile(sum, tile);
}

typedef void GemmTileFunction(const GemmTile&);

struct GemmTiles {
  GemmTileFunction *narrow[kNarrowRows], *wide[kTileRows];  // by rows - 1; of one vector, of two
};

template <int... Narrow, int... Wide>
constexpr GemmTiles make_gemm_tiles(std::integer_sequence<int, Narrow...>, std::integer_sequence<int, Wide...>) {
  static_assert(kTileVecs == 2);
  return {{gemm_tile<Narrow + 1, 1>...}, {gemm_tile<Wide + 1, 2>...}};
}

constexpr GemmTiles kGemmTiles =
    make_gemm_tiles(std::make_integer_sequence<int, kNarrowRows>{}, std::make_integer_sequence<int, kTileRows>{});

// Walks `rows` rows of A in tiles of equal height, as near as can be: 14 rows in tiles of at most 6 are 5 + 5 + 4.
inline void gemm_rows(GemmTile tile, int64_t rows) {
  const bool narrow = tile.cols <= kLanes;
  const auto* tiles = narrow ? kGemmTiles.narrow : kGemmTiles.wide;
  const int64_t most = narrow ? kNarrowRows : kTileRows;
  for (int64_t left = (rows + most - 1) / most; left > 0; --left) {
    const int64_t height = (rows + left - 1) / left;
    tiles[height - 1](tile);
    tile.a += height * tile.a_row;
    tile.c += height * tile.c_row;
    rows -= height;
  }
}

}  // namespace
}  // namespace convkit
