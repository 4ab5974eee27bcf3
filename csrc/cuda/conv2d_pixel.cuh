// Output pixels by number, for the kernels of conv2d_gemm.h.
#pragma once

#include "cuda/conv2d_gemm.h"

namespace convkit::cuda {

constexpr int kNoPixel = -(1 << 30);  // a position that no tap brings back into an input

struct Pixel {
  int64_t n;
  int h, w;
};

__device__ inline Pixel pixel_at(const GemmPhase& phase, int64_t number) {
  const int64_t line = number / phase.ow;
  return {line / phase.oh, static_cast<int>(line % phase.oh), static_cast<int>(number % phase.ow)};
}

// Where the rows (pixels) of a block's tile are in the output of its group's first filter; -1 beyond the last.
template <int Rows, typename T, typename Out>
__device__ void write_row_offsets(const ConvGemm<T, Out>& p, const GemmPhase& phase, int64_t first_row,
                                  int64_t (&offsets)[Rows]) {
  const int64_t row = first_row + threadIdx.x;
  if (threadIdx.x >= Rows) return;
  const Pixel at = pixel_at(phase, row);
  const int64_t offset = phase.output + at.n * p.output.n + int64_t{blockIdx.y} * p.filters * p.output.c +
                         at.h * p.output.h + at.w * p.output.w;
  offsets[threadIdx.x] = at.n < p.n ? offset : -1;
}

}  // namespace convkit::cuda
