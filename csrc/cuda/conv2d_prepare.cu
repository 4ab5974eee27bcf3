// What the products of conv2d_gemm.h need beforehand: the table of taps and the packed weights; and what they may need
// afterwards: the sum of the splits.
#include "common/half.h"
#include "cuda/conv2d_gemm_launch.h"
#include "cuda/conv2d_pixel.cuh"
#include "cuda/intrinsics.cuh"
#include "cuda/launch.cuh"

namespace convkit::cuda {
namespace {

constexpr int kTile = 32;
constexpr int kRows = 8;  // of threads

static_assert(kDepthAlign % kTile == 0);

// Where packed weights have product k of a column, in elements.
template <typename T>
__device__ int64_t wgmma_place(int column, int k, int padded) {
  constexpr int kRow = kChannelBytes / static_cast<int>(sizeof(T)), kLanes = 16 / static_cast<int>(sizeof(T));
  const int64_t block = static_cast<int64_t>(column / 64) * (padded / kRow) + k / kRow;
  return (block * 64 + column % 64) * kRow + (k % kRow ^ column % 8 * kLanes);
}

// Blocks: x = tiles of the depth times tiles of columns, y = groups, z = phases. `weights` is 0 for a table alone.
template <typename T, typename Out, Packing Order>
__global__ void __launch_bounds__(kTile* kRows)
    conv2d_prepare_kernel(const ConvGemm<T, Out> p, GemmTap* table, T* packed, int depth_tiles) {
  auto& tile = shared_memory<T[kTile][kTile + 1]>();
  const GemmPhase phase = p.phases[blockIdx.z];
  const int depth = p.channels * phase.kh * phase.kw;
  const int padded = static_cast<int>(padded_depth(depth));
  const int first_k = static_cast<int>(blockIdx.x % depth_tiles) * kTile;
  const int first_column = static_cast<int>(blockIdx.x / depth_tiles) * kTile;
  const int lane = threadIdx.x % kTile, row = threadIdx.x / kTile;
  if (first_k >= padded) return;
  if (first_column == 0 && blockIdx.y == 0 && static_cast<int>(threadIdx.x) < kTile / p.vector) {
    const int k = first_k + static_cast<int>(threadIdx.x) * p.vector;
    GemmTap tap{0, kNoPixel, kNoPixel};
    if (k < depth) {
      const Product at = product_at(p, phase, k);
      tap.h = at.r * phase.dilation_h, tap.w = at.s * phase.dilation_w;
      tap.offset = at.channel * p.input.c + tap.h * p.input.h + tap.w * p.input.w;
    }
    table[phase.table + k / p.vector] = tap;
  }
  if (!packed) return;
  const T* weight = p.weight + phase.weight + blockIdx.y * p.weight_group;
  const Product at = first_k + lane < depth ? product_at(p, phase, first_k + lane) : Product{};
  const int64_t offset = at.channel * p.weight_channel + at.r * phase.weight_h + at.s * phase.weight_w;
  T* to = packed + phase.packed + static_cast<int64_t>(blockIdx.y) * padded * p.columns;
  for (int i = row; i < kTile; i += kRows) {
    const int column = first_column + i;
    const bool there = first_k + lane < depth && column < p.filters;
    T value = there ? weight[offset + column * p.weight_filter] : T{};
    if constexpr (sizeof(T) == 4 && Order == Packing::kWgmma) value = __uint_as_float(to_tf32(value));
    if constexpr (Order == Packing::kWgmma)
      to[wgmma_place<T>(column, first_k + lane, padded)] = value;
    else if constexpr (Order == Packing::kDepthInner)
      to[static_cast<int64_t>(column) * padded + first_k + lane] = value;
    else
      tile[i][lane] = value;
  }
  if constexpr (Order == Packing::kColumnsInner) {
    __syncthreads();
    for (int i = row; i < kTile; i += kRows)
      to[static_cast<int64_t>(first_k + i) * p.columns + first_column + lane] = tile[lane][i];
  }
}

constexpr int kThreads = 256;

// The output's elements in memory order; the channel of element i is i / channel_stride % channels.
template <typename T>
__global__ void __launch_bounds__(kThreads) conv2d_sum_splits_kernel(const SplitSum<T> p) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < p.count; i += step) {
    float sum = p.sums[i];
    for (int split = 1; split < p.splits; ++split) sum += p.sums[split * p.count + i];
    if (p.bias) sum += static_cast<float>(p.bias[i / p.channel_stride % p.channels]);
    p.output[i] = T(p.relu && sum < 0.0f ? 0.0f : sum);
  }
}

}  // namespace

template <typename T, typename Out>
int launch_conv2d_prepare(const ConvGemm<T, Out>& p, GemmTap* table, T* packed, Packing packing, void* stream) {
  int64_t depth = 1;
  for (int i = 0; i < p.phase_count; ++i) depth = max(depth, int64_t{p.channels} * p.phases[i].kh * p.phases[i].kw);
  const int64_t depth_tiles = padded_depth(depth) / kTile;
  const int64_t column_tiles = packed ? p.columns / kTile : 1;
  const Grid grid{{static_cast<unsigned>(depth_tiles * column_tiles), packed ? static_cast<unsigned>(p.groups) : 1u,
                   static_cast<unsigned>(p.phase_count)},
                  kTile * kRows,
                  kTile * (kTile + 1) * sizeof(T)};
  const auto kernel = packing == Packing::kWgmma        ? conv2d_prepare_kernel<T, Out, Packing::kWgmma>
                      : packing == Packing::kDepthInner ? conv2d_prepare_kernel<T, Out, Packing::kDepthInner>
                                                        : conv2d_prepare_kernel<T, Out, Packing::kColumnsInner>;
  return launch(kernel, grid, stream, p, table, packed, static_cast<int>(depth_tiles));
}

template <typename T>
int launch_conv2d_sum_splits(const SplitSum<T>& p, void* stream) {
  const auto blocks = static_cast<unsigned>(min(ceil_div(p.count, kThreads), 65536));
  return launch(conv2d_sum_splits_kernel<T>, {blocks, kThreads}, stream, p);
}

#define CONVKIT_PREPARE(T, Out) \
  template int launch_conv2d_prepare<T, Out>(const ConvGemm<T, Out>&, GemmTap*, T*, Packing, void*);
CONVKIT_PREPARE(float, float)
CONVKIT_PREPARE(Half, Half)
CONVKIT_PREPARE(BFloat16, BFloat16)
CONVKIT_PREPARE(Half, float)
CONVKIT_PREPARE(BFloat16, float)

template int launch_conv2d_sum_splits<float>(const SplitSum<float>&, void*);
template int launch_conv2d_sum_splits<Half>(const SplitSum<Half>&, void*);
template int launch_conv2d_sum_splits<BFloat16>(const SplitSum<BFloat16>&, void*);

}  // namespace convkit::cuda
