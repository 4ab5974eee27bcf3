// The gradient of a bias: sums over all pixels of each channel, bound by bandwidth. Threads of a warp go along what is
// contiguous: pixels of a channel, or channels of a pixel.
#include "cuda/bias.h"
#include "cuda/index.cuh"
#include "cuda/sum.cuh"

namespace convkit::cuda {
namespace {

constexpr int kRows = kThreads / 32;

template <typename T>
__device__ void store_sum(const ChannelSums<T>& p, int64_t channel, Sum<T> sum) {
  if (p.parts > 1)
    p.partial[blockIdx.y * p.c + channel] = sum;
  else
    p.sums[channel] = T(sum);
}

// The pixels of this block's part: [begin, end) of n * h * w.
struct Part {
  int64_t begin, end;

  __device__ Part(int64_t pixels) {
    const int64_t size = (pixels + gridDim.y - 1) / gridDim.y;
    begin = min(blockIdx.y * size, pixels), end = min(begin + size, pixels);
  }
};

// A block per channel and part.
template <typename T>
__global__ void channel_sums_kernel(ChannelSums<T> p) {
  const int64_t channel = blockIdx.x;
  const Part part(p.n * p.h * p.w);
  ChainedSum<Sum<T>> sum;
  for (int64_t i = part.begin + threadIdx.x; i < part.end; i += kThreads) {
    const Index4d at = index_4d(i, 1, p.h, p.w, false);
    sum.add(Sum<T>(element(p.input, {at.n, channel, at.h, at.w})));
  }
  const Sum<T> total = block_sum(sum.total());
  if (threadIdx.x == 0) store_sum(p, channel, total);
}

// A block per 32 channels and part: a lane takes a channel, a warp a pixel.
template <typename T>
__global__ void channel_sums_channels_last_kernel(ChannelSums<T> p) {
  auto& rows = shared_memory<Sum<T>[kRows][32]>();
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32;
  const int64_t channel = int64_t{blockIdx.x} * 32 + lane;
  const Part part(p.n * p.h * p.w);
  ChainedSum<Sum<T>> sum;
  for (int64_t i = part.begin + row; i < part.end && channel < p.c; i += kRows) {
    const Index4d at = index_4d(i, 1, p.h, p.w, false);
    sum.add(Sum<T>(element(p.input, {at.n, channel, at.h, at.w})));
  }
  rows[row][lane] = sum.total();
  __syncthreads();
  if (row > 0 || channel >= p.c) return;
  Sum<T> total = 0;
  for (int r = 0; r < kRows; ++r) total += rows[r][lane];
  store_sum(p, channel, total);
}

template <typename T>
__global__ void add_parts_kernel(ChannelSums<T> p) {
  for_each_index(p.c, [&](int64_t channel) {
    Sum<T> total = 0;
    for (int64_t part = 0; part < p.parts; ++part) total += p.partial[part * p.c + channel];
    p.sums[channel] = T(total);
  });
}

}  // namespace

int64_t channel_sum_parts(int64_t n, int64_t c, int64_t h, int64_t w) {
  constexpr int64_t kPixels = 4096, kMostParts = 1024, kBlocks = 4096;  // pixels of a block at least; blocks enough
  return clamp(min(n * h * w / kPixels, ceil_div(kBlocks, max(c, 1))), 1, kMostParts);
}

template <typename T>
int launch_channel_sums(const ChannelSums<T>& p, void* stream) {
  const auto parts = static_cast<unsigned>(p.parts);
  int error;
  if (p.input.c == 1) {
    const Grid grid{{static_cast<unsigned>(ceil_div(p.c, 32)), parts}, kThreads, sizeof(Sum<T>[kRows][32])};
    error = launch(channel_sums_channels_last_kernel<T>, grid, stream, p);
  } else {
    const Grid grid{{static_cast<unsigned>(p.c), parts}, kThreads, sizeof(Sum<T>[32])};
    error = launch(channel_sums_kernel<T>, grid, stream, p);
  }
  if (error != cudaSuccess || p.parts == 1) return error;
  return launch(add_parts_kernel<T>, {blocks_for(p.c), kThreads}, stream, p);
}

template int launch_channel_sums<Half>(const ChannelSums<Half>&, void*);
template int launch_channel_sums<BFloat16>(const ChannelSums<BFloat16>&, void*);
template int launch_channel_sums<float>(const ChannelSums<float>&, void*);
template int launch_channel_sums<double>(const ChannelSums<double>&, void*);

}  // namespace convkit::cuda
