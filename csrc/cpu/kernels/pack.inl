// Copies parts of tensors of any strides into the small dense blocks that the tile kernel reads.
#pragma once

#include "common/conv2d_shape.h"
#include "common/int_math.h"
#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

// One step of the transposition: swaps the off-diagonal Step x Step blocks of each 2 Step x 2 Step block.
template <int Step, int... Lane>
inline void transpose_step(Vec* rows, std::integer_sequence<int, Lane...>) {
  for (int i = 0; i < kLanes; ++i) {
    if (i & Step) continue;
    const Vec a = rows[i], b = rows[i + Step];
    rows[i] = pick(a, b, std::integer_sequence<int, (Lane & Step ? kLanes + Lane - Step : Lane)...>{});
    rows[i + Step] = pick(a, b, std::integer_sequence<int, (Lane & Step ? kLanes + Lane : Lane + Step)...>{});
  }
}

// A kLanes x kLanes block of floats, in registers.
inline void transpose(Vec* rows) {
  constexpr auto kAll = std::make_integer_sequence<int, kLanes>{};
  transpose_step<1>(rows, kAll);
  transpose_step<2>(rows, kAll);
  if constexpr (kLanes >= 8) transpose_step<4>(rows, kAll);
  if constexpr (kLanes >= 16) transpose_step<8>(rows, kAll);
}

// block[j][i] = source[i * from + j]
inline void load_transposed(const float* source, int64_t from, Vec* block) {
#pragma GCC unroll 16
  for (int r = 0; r < kLanes; ++r) block[r] = load(source + r * from);
  transpose(block);
}

// destination[j * to + i] = source[i * from + j] for i < rows, j < cols.
void transpose_copy(const float* source, int64_t from, float* destination, int64_t to, int64_t rows, int64_t cols) {
  const int64_t block_rows = rows / kLanes * kLanes, block_cols = cols / kLanes * kLanes;
  for (int64_t i = 0; i < block_rows; i += kLanes) {
    for (int64_t j = 0; j < block_cols; j += kLanes) {
      Vec block[kLanes];
      load_transposed(source + i * from + j, from, block);
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) store(destination + (j + r) * to + i, block[r]);
    }
  }
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = i < block_rows ? block_cols : 0; j < cols; ++j) destination[j * to + i] = source[i * from + j];
}

// destination[i * to + j] = source[i * from_row + j * from_col] for i < rows, j < cols.
void strided_copy(const float* source, int64_t from_row, int64_t from_col, float* destination, int64_t to, int64_t rows,
                  int64_t cols) {
  if (from_col == 1 && from_row == cols && to == cols) {
    std::memcpy(destination, source, rows * cols * sizeof(float));
  } else if (from_col == 1) {
    for (int64_t i = 0; i < rows; ++i) {
      const float* s = source + i * from_row;
      float* d = destination + i * to;
      int64_t j = 0;
      for (; j + kLanes <= cols; j += kLanes) store(d + j, load(s + j));
      for (; j < cols; ++j) d[j] = s[j];
    }
  } else if (from_row == 1) {
    transpose_copy(source, from_col, destination, to, cols, rows);
  } else {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j) destination[i * to + j] = source[i * from_row + j * from_col];
  }
}

inline void fill_zero(float* p, int64_t count) { std::memset(p, 0, count * sizeof(float)); }

// The part [begin, end) of [0, count) for which 0 <= start + i < size.
struct Range {
  int64_t begin, end;
};
inline Range inside(int64_t start, int64_t count, int64_t size) {
  const int64_t begin = clamp(-start, 0, count);
  return {begin, clamp(size - start, begin, count)};
}

}  // namespace
}  // namespace convkit
