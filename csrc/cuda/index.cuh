// From the number of a thread to what it computes.
#pragma once

#include "common/conv2d_shape.h"
#include "common/int_math.h"
#include "cuda/divide.cuh"
#include "cuda/launch.cuh"

namespace convkit::cuda {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = int64_t{1} << 20;  // beyond, loops take more steps

inline unsigned blocks_for(int64_t count, int64_t per_block = kThreads) {
  return static_cast<unsigned>(min(ceil_div(count, per_block), kMaxBlocks));
}

// Calls body(i) for every i < count, each in one thread of the grid.
template <typename Body>
__device__ void for_each_index(int64_t count, const Body& body) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) body(i);
}

struct Index4d {
  int64_t n, c, h, w;
};

// Of the i-th element of [n, c, h, w] in (n, c, h, w) order, or in (n, h, w, c) order: that of memory.
__device__ inline Index4d index_4d(int64_t i, int64_t c, int64_t h, int64_t w, bool channels_last) {
  Index4d at;
  int64_t rest = i;
  if (channels_last) {
    int64_t pixel = divide(rest, c);
    at.c = rest;
    int64_t row = divide(pixel, w);
    at.w = pixel;
    at.n = divide(row, h);
    at.h = row;
  } else {
    int64_t row = divide(rest, w);
    at.w = rest;
    int64_t plane = divide(row, h);
    at.h = row;
    at.n = divide(plane, c);
    at.c = plane;
  }
  return at;
}

template <typename T>
__device__ T& element(const View4d<T>& view, const Index4d& at) {
  return view.data[at.n * view.n + at.c * view.c + at.h * view.h + at.w * view.w];
}

}  // namespace convkit::cuda
