// Tiles of the gradient of the weight of few input channels, as in a first layer, which as rows would leave most of a
// tile empty: here the rows are the weights of all taps, and a table says where the pixels of each begin.
#pragma once

#include "cpu/kernels/conv2d_backward_weight_band.inl"

namespace convkit {
namespace {

// gemm_tile whose rows of A begin anywhere, at tile.a + first[row], and whose pixels are tile.a_inner apart.
template <int Rows, int Vecs>
void weights_tile(const GemmTile& tile, const int64_t* first) {
  Vec sum[Rows][Vecs];
  for_each_vector(sum, [](Vec& value, int, int) { value = Vec{}; });
  const float *a[Rows], *b = tile.b;
  const int64_t b_row = tile.b_row, step = tile.a_inner;
#pragma GCC unroll 16
  for (int row = 0; row < Rows; ++row) a[row] = tile.a + first[row];
  for (int64_t begin = 0, left = tile.outer; left > 0; --left, begin += tile.a_outer) {
    for (int64_t k = begin, end = begin + tile.run * step; k < end; k += step, b += b_row) {
      prefetch_ahead(b);
      Vec column[Vecs];
#pragma GCC unroll 4
      for (int v = 0; v < Vecs; ++v) column[v] = load(b + v * kLanes);
#pragma GCC unroll 16
      for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
        for (int v = 0; v < Vecs; ++v) sum[row][v] += a[row][k] * column[v];
      }
    }
  }
  finish_tile(sum, tile);
}

constexpr int kWeightRows = 9;  // as many pointers as there are registers for
typedef void WeightsTileFunction(const GemmTile&, const int64_t*);

struct WeightsTiles {
  WeightsTileFunction *narrow[kWeightRows], *wide[kTileRows];
};

template <int... Narrow, int... Wide>
constexpr WeightsTiles make_weights_tiles(std::integer_sequence<int, Narrow...>, std::integer_sequence<int, Wide...>) {
  return {{weights_tile<Narrow + 1, 1>...}, {weights_tile<Wide + 1, 2>...}};
}

constexpr WeightsTiles kWeightsTiles =
    make_weights_tiles(std::make_integer_sequence<int, kWeightRows>{}, std::make_integer_sequence<int, kTileRows>{});

void weights_rows(GemmTile tile, const int64_t* first, int64_t rows) {
  const bool narrow = tile.cols <= kLanes;
  const auto* tiles = narrow ? kWeightsTiles.narrow : kWeightsTiles.wide;
  for (int64_t left = ceil_div(rows, narrow ? kWeightRows : kTileRows); left > 0; --left) {
    const int64_t height = ceil_div(rows, left);
    tiles[height - 1](tile, first);
    first += height;
    tile.c += height * tile.c_row;
    rows -= height;
  }
}

// A row of the window of one input channel: its first weight of [kh, kw, ic].
struct WindowRow {
  int64_t weight, ic;

  void advance(int64_t taps, int64_t ics) {
    ++weight;
    if (++ic == ics) ic = 0, weight += (taps - 1) * ics;
  }
};

// The same for one vector of columns and the rows of windows whose taps are as far apart as pixels: a number of the
// input, once loaded, meets the gradients of two pixels in as many taps. Sums are of the same products in the same
// order.
template <int Rows, int Taps>
void window_rows_tile(const GemmTile& tile, const int64_t* first, WindowRow row, int64_t ics) {
  Vec sum[Rows][Taps];
  for_each_vector(sum, [](Vec& value, int, int) { value = Vec{}; });
  const float *a[Rows], *b = tile.b;
  float* c[Rows];
  const int64_t b_row = tile.b_row, step = tile.a_inner;
#pragma GCC unroll 5
  for (int r = 0; r < Rows; ++r, row.advance(Taps, ics))
    a[r] = tile.a + first[row.weight], c[r] = tile.c + row.weight * tile.c_row;
  const auto add = [&](int64_t k, auto pixels) {
    constexpr int kPixels = decltype(pixels)::value;
    Vec grad[kPixels];
#pragma GCC unroll 2
    for (int p = 0; p < kPixels; ++p, b += b_row) {
      prefetch_ahead(b);
      grad[p] = load(b);
    }
#pragma GCC unroll 5
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 6
      for (int col = 0; col < Taps + kPixels - 1; ++col) {
        const Vec value = broadcast(a[r][k + col * step]);
#pragma GCC unroll 2
        for (int p = 0; p < kPixels; ++p)
          if (col >= p && col - p < Taps) sum[r][col - p] += value * grad[p];
      }
    }
  };
  for (int64_t begin = 0, left = tile.outer; left > 0; --left, begin += tile.a_outer) {
    int64_t k = begin;
    for (int64_t pairs = tile.run / 2; pairs > 0; --pairs, k += 2 * step) add(k, std::integral_constant<int, 2>{});
    if (tile.run % 2) add(k, std::integral_constant<int, 1>{});
  }
  store_sums(sum, tile.accumulate, [&](int r, int tap) { return c[r] + tap * ics * tile.c_row; });
}

typedef void WindowRowsFunction(const GemmTile&, const int64_t*, WindowRow, int64_t);
constexpr int kWindowSums = kTileRows > 6 ? 15 : 12;  // beside two vectors of gradients and one of the input

template <int Taps, int... Row>
void window_rows(const GemmTile& tile, const int64_t* first, int64_t rows, int64_t ics,
                 std::integer_sequence<int, Row...>) {
  static constexpr WindowRowsFunction* kTiles[] = {window_rows_tile<Row + 1, Taps>...};
  WindowRow row{};
  for (int64_t left = ceil_div(rows, sizeof...(Row)); left > 0; --left) {
    const int64_t height = ceil_div(rows, left);
    kTiles[height - 1](tile, first, row, ics);
    for (int64_t i = 0; i < height; ++i) row.advance(Taps, ics);
    rows -= height;
  }
}
template <int Taps>
void window_rows(const GemmTile& tile, const int64_t* first, int64_t rows, int64_t ics) {
  window_rows<Taps>(tile, first, rows, ics, std::make_integer_sequence<int, kWindowSums / Taps>{});
}

// sums [kh, kw, ic, columns] += the products of a band.
void all_taps(const Conv2dShape& s, const GemmTile& tile, const int64_t* first, int64_t ics) {
  const bool neighbours = tile.cols <= kLanes && s.stride_w == s.dilation_w;
  if (neighbours && s.kw == 3) return window_rows<3>(tile, first, s.kh * ics, ics);
  if (neighbours && s.kw == 5) return window_rows<5>(tile, first, s.kh * ics, ics);
  weights_rows(tile, first, s.kh * s.kw * ics);
}

}  // namespace
}  // namespace convkit
