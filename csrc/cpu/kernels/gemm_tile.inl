// The work-horse: a tile of C (+)= A * B held in registers, Rows x (kTileVecs vectors). B is packed, one row of the
// tile's columns per reduction step; A is read in place, one float broadcast to a row of the tile. The reduction index
// runs through `outer` x `inner` contiguous runs of A, which is what a convolution's window is in memory: no im2col.
//
// With AVX512_BF16 a step may also be two products of bfloat16 numbers, which lie side by side in A and in B.
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

// The products of a step: numbers side by side of A by as many of each column of B.
template <typename T>
constexpr int kStepNumbers = 1;

inline Vec load_step(const float* p) { return load(p); }
inline void store_sum(float* p, Vec sum) { store_far(p, sum); }
inline void multiply_add(Vec& sum, const float* a, Vec column) { sum += *a * column; }

#if defined(__AVX512BF16__)
template <>
constexpr int kStepNumbers<BFloat16> = 2;

inline void store_sum(BFloat16* p, Vec sum) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh((__m512)sum));
}
inline __m512bh load_step(const BFloat16* p) { return (__m512bh)_mm512_loadu_si512(p); }
// Products and sums that are smaller than 2^-126 count as zero.
inline void multiply_add(Vec& sum, const BFloat16* a, __m512bh column) {
  int32_t pair;
  std::memcpy(&pair, a, sizeof(pair));
  sum = (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(pair), column);
}
#endif

// T of A and B, Out of C, which sums are rounded to.
template <typename T, typename Out>
struct GemmTileOf {
  const T* a;  // A(row, step) = a[row * a_row + o * a_outer + i * a_inner + kStepNumbers * k]
  int64_t a_row, a_outer, a_inner;
  int64_t outer, inner, run;           // steps = outer * inner * run
  int64_t missing_inner, missing_run;  // so much smaller is the last of the outer runs
  bool split;                          // sum each of the outer runs apart: shorter chains of additions round less
  const T* b;                          // B(step, column) = b[step * b_row + kStepNumbers * column], whole vectors
  int64_t b_row = kTileCols * kStepNumbers<T>;
  Out* c;  // [rows, cols]
  int64_t c_row;
  int64_t cols;       // columns of C that exist, <= kTileCols
  bool accumulate;    // add to what C holds
  const float* bias;  // [cols, padded to kTileCols] or null: added last
  Activation activation;
};
using GemmTile = GemmTileOf<float, float>;

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
template <int Rows, int Vecs, typename T, typename Out>
inline void finish_tile(Vec (&sum)[Rows][Vecs], const GemmTileOf<T, Out>& tile) {
  Out* const c = tile.c;
  const int64_t c_row = tile.c_row, rest = tile.cols - (Vecs - 1) * kLanes;  // columns in the last vector
  const auto each = [&](auto step) { for_each_vector(sum, step); };
  const auto each_place = [&](auto whole, auto partial) {
    if (rest == kLanes)
      each([&](Vec& value, int row, int v) { whole(value, c + row * c_row + v * kLanes); });
    else
      each([&](Vec& value, int row, int v) {
        Out* place = c + row * c_row + v * kLanes;
        v + 1 < Vecs ? whole(value, place) : partial(value, place);
      });
  };
  if (tile.accumulate)
    each_place([](Vec& value, Out* place) { value += load(place); },
               [&](Vec& value, Out* place) { value += load_first(place, rest); });
  if (tile.bias) each([&](Vec& value, int, int v) { value += load(tile.bias + v * kLanes); });
  if (tile.activation != Activation::kNone)
    each([&](Vec& value, int, int) { value = activate(tile.activation, value); });
  each_place([](Vec& value, Out* place) { store_sum(place, value); },
             [&](Vec& value, Out* place) { store_first(place, value, rest); });
}

template <int Rows, int Vecs, typename T, typename Out>
void gemm_tile(const GemmTileOf<T, Out>& tile) {
  Vec sum[Rows][Vecs];
  for_each_vector(sum, [](Vec& value, int, int) { value = Vec{}; });  // " = {}" makes gcc clear memory
  alignas(kLanes * 4) float total[Rows * kTileCols];
  const T* b = tile.b;
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
      const T* a = tile.a + o * tile.a_outer + i * tile.a_inner;
      for (int64_t k = 0; k < run; ++k, a += kStepNumbers<T>, b += b_row) {
        decltype(load_step(b)) column[Vecs];
#pragma GCC unroll 4
        for (int v = 0; v < Vecs; ++v) column[v] = load_step(b + v * kLanes * kStepNumbers<T>);
#pragma GCC unroll 16
        for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
          for (int v = 0; v < Vecs; ++v) multiply_add(sum[row][v], a + row * a_row, column[v]);
        }
      }
    }
  }
  if (tile.split && tile.outer > 1)
    for_each_vector(sum,
                    [&](Vec& value, int row, int v) { value = load(total + row * kTileCols + v * kLanes) + value; });
  finish_tile(sum, tile);
}

template <typename T, typename Out>
struct GemmTiles {
  typedef void Function(const GemmTileOf<T, Out>&);
  Function *narrow[kNarrowRows], *wide[kTileRows];  // by rows - 1; of one vector, of two
};

template <typename T, typename Out, int... Narrow, int... Wide>
constexpr GemmTiles<T, Out> make_gemm_tiles(std::integer_sequence<int, Narrow...>,
                                            std::integer_sequence<int, Wide...>) {
  static_assert(kTileVecs == 2);
  return {{gemm_tile<Narrow + 1, 1, T, Out>...}, {gemm_tile<Wide + 1, 2, T, Out>...}};
}

template <typename T, typename Out>
constexpr GemmTiles<T, Out> kGemmTiles = make_gemm_tiles<T, Out>(std::make_integer_sequence<int, kNarrowRows>{},
                                                                 std::make_integer_sequence<int, kTileRows>{});

// Walks `rows` rows of A in tiles of equal height, as near as can be: 14 rows in tiles of at most 6 are 5 + 5 + 4.
template <typename T, typename Out>
inline void gemm_rows(GemmTileOf<T, Out> tile, int64_t rows) {
  const bool narrow = tile.cols <= kLanes;
  const auto* tiles = narrow ? kGemmTiles<T, Out>.narrow : kGemmTiles<T, Out>.wide;
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
