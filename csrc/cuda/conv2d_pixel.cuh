// Output pixels by number, for the kernels of conv2d_gemm.h.
#pragma once

#include <cuda_runtime.h>

#include "cuda/conv2d_gemm.h"
#include "cuda/divide.cuh"

namespace convkit::cuda {

constexpr int kNoPixel = -(1 << 30);  // a position that no tap brings back into an input

struct Pixel {
  int64_t n;
  int h, w;
};

__device__ inline Pixel pixel_at(const GemmPhase& phase, int64_t number) {
  int64_t w = number, h = divide(w, phase.pitch);
  const int64_t n = divide(h, phase.oh);
  return {n, static_cast<int>(h), static_cast<int>(w)};
}

// To the pixel some steps further, without a division.
template <typename At>
__device__ void advance(const GemmPhase& phase, At& at, int step) {
  at.w += step;
  while (at.w >= phase.pitch) {
    at.w -= phase.pitch;
    if (++at.h == phase.oh) at.h = 0, ++at.n;
  }
}

// Rows in a fused pooling of 2x2 windows: the four pixels of a window are `Apart` rows apart, row by row of the image,
// and rows between them belong to the next windows. A last row or column of pixels that fills no window has no number.
template <int Apart>
struct WindowRow {
  int64_t window;
  int tap;

  __device__ explicit WindowRow(int64_t row)
      : window(row / (4 * Apart) * Apart + row % Apart), tap(static_cast<int>(row / Apart % 4)) {}

  __device__ Pixel place(const GemmPhase& phase) const {  // of the pooled result
    int64_t w = window, h = divide(w, phase.ow / 2);
    const int64_t n = divide(h, phase.oh / 2);
    return {n, static_cast<int>(h), static_cast<int>(w)};
  }
};

// The pixel of a row; beyond the last, of an image that is not there. Apart is 0 without pooling.
template <int Apart>
__device__ Pixel row_pixel(const GemmPhase& phase, int64_t row) {
  if constexpr (Apart == 0) {
    return pixel_at(phase, row);
  } else {
    const WindowRow<Apart> at(row);
    const Pixel place = at.place(phase);
    return {place.n, 2 * place.h + at.tap / 2, 2 * place.w + at.tap % 2};
  }
}

// One of the products of a window.
struct Product {
  int32_t channel, r, s;
};

template <typename T, typename Out>
__device__ Product product_at(const ConvGemm<T, Out>& p, const GemmPhase& phase, int k) {
  const int taps = phase.kh * phase.kw;
  if (p.vector == 1) return {k / taps, k % taps / phase.kw, k % taps % phase.kw};
  const int most = min(kChannelBytes / static_cast<int>(sizeof(T)), max(p.channels, 1));
  const int first = k / (most * taps) * most, rest = k % (most * taps);
  const int together = min(most, max(p.channels - first, 1)), tap = rest / together;
  return {first + rest % together, tap / phase.kw, tap % phase.kw};
}

// One of `count` pixels after another, some steps apart, without a division.
class PixelWalk {
 public:
  __device__ PixelWalk(const GemmPhase& phase, int64_t first, int skip, int count) : left_(count - skip) {
    const Pixel at = pixel_at(phase, first + skip);
    n = static_cast<int>(at.n), h = at.h, w = at.w;
  }

  __device__ bool inside() const { return left_ > 0; }
  __device__ void advance(const GemmPhase& phase, int step) {
    left_ -= step;
    cuda::advance(phase, *this, step);
  }

  int n, h, w;

 private:
  int left_;
};

// Where the rows of a block's tile are in the split's output, of the group's first filter; -1 beyond the last. Of four
// rows that are pooled, the first has the place, the second whether it is its image's first.
template <int Rows, int Apart, typename T, typename Out>
__device__ void write_row_offsets(const ConvGemm<T, Out>& p, const GemmPhase& phase, int split, int64_t first_row,
                                  int64_t (&offsets)[Rows]) {
  const int64_t row = first_row + threadIdx.x;
  if (threadIdx.x >= Rows) return;
  Pixel at;
  if constexpr (Apart == 0) {
    at = pixel_at(phase, row);
    if (at.w >= phase.ow) at.n = p.n;
  } else {
    const WindowRow<Apart> of(row);
    at = of.place(phase);
    if (of.tap == 1) {
      offsets[threadIdx.x] = at.h == 0 && at.w == 0;
      return;
    }
  }
  const int64_t offset = phase.output + split * p.split_stride + at.n * p.output.n +
                         int64_t{blockIdx.y} * p.filters * p.output.c + at.h * p.output.h + at.w * p.output.w;
  offsets[threadIdx.x] = at.n < p.n ? offset : -1;
}

// Where the columns (products) of a block's tile are in a filter of the split's output; -1 beyond the last.
template <int Columns, typename T, typename Out>
__device__ void write_column_offsets(const ConvGemm<T, Out>& p, int split, int first_column,
                                     int64_t (&offsets)[Columns]) {
  const int column = first_column + static_cast<int>(threadIdx.x);
  if (threadIdx.x >= Columns) return;
  const GemmPhase& phase = p.phases[0];
  const Product at = product_at(p, phase, column);
  const int64_t offset = split * p.split_stride + at.channel * p.output.c + at.r * p.output.h + at.s * p.output.w;
  offsets[threadIdx.x] = column < p.channels * phase.kh * phase.kw ? offset : -1;
}

}  // namespace convkit::cuda
