// Convolution by float32 multiply-adds: a block gathers the window's inputs of its rows (output pixels) into shared
// memory, a few products deep, while it multiplies those before.
#include "cuda/conv2d_ffma.cuh"
#include "cuda/conv2d_gemm_grid.cuh"
#include "cuda/conv2d_gemm_launch.h"
#include "cuda/conv2d_pixel.cuh"
#include "cuda/conv2d_pooled.cuh"
#include "cuda/intrinsics.cuh"

namespace convkit::cuda {
namespace {

// A thread has sums of neighbouring rows: together, those of a window.
template <bool Pooled>
constexpr int kApart = Pooled ? 1 : 0;

// What a thread loads of each step of kDepth products: Vector channels of one pixel, which it transposes by way of its
// registers, or of one pixel kLoads products, which are copied to where they belong.
template <typename Tile, int Vector, bool Pooled>
class PatchLoader {
 public:
  __device__ PatchLoader(const ConvGemm<float>& p, const GemmPhase& phase, int64_t first_row) : p_(p) {
    const int64_t channel = int64_t{blockIdx.y} * p.channels;
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      const Pixel at = row_pixel<kApart<Pooled>>(phase, first_row + pixel(i));
      top_[i] = at.n < p.n ? at.h * p.stride_h + phase.top : kNoPixel;
      left_[i] = at.w * p.stride_w + phase.left;
      input_[i] = p.input.data + at.n * p.input.n + channel * p.input.c + top_[i] * p.input.h + left_[i] * p.input.w;
    }
    table_ = p.table + phase.table;
  }

  // The first half of a step: `a` is free, and filled when finish_load and cp_async_wait are done.
  __device__ void load(int k, float (&a)[Tile::kDepth][Tile::kPitch]) {
    if constexpr (Vector == 1) {
#pragma unroll
      for (int i = 0; i < kValues; ++i) {
        const GemmTap tap = table_[k + depth(i)];
        cp_async<4>(&a[depth(i)][pixel(0)], input_[0] + tap.offset, inside(0, tap));
      }
    } else {
      const GemmTap tap = table_[(k + depth(0)) / Vector];
#pragma unroll
      for (int i = 0; i < kPixels; ++i)
        values_[i] = inside(i, tap) ? *reinterpret_cast<const float4*>(input_[i] + tap.offset) : float4{};
    }
  }

  __device__ void finish_load(float (&a)[Tile::kDepth][Tile::kPitch]) const {
    if constexpr (Vector == 4) {
#pragma unroll
      for (int i = 0; i < kPixels; ++i) {
        a[depth(0)][pixel(i)] = values_[i].x, a[depth(0) + 1][pixel(i)] = values_[i].y;
        a[depth(0) + 2][pixel(i)] = values_[i].z, a[depth(0) + 3][pixel(i)] = values_[i].w;
      }
    }
  }

 private:
  static constexpr int kValues = Tile::kDepth * Tile::kRows / Tile::kThreads;
  static constexpr int kPixels = Vector == 4 ? kValues / 4 : 1;
  static constexpr int kAcross = Tile::kDepth / Vector;  // threads side by side along the depth
  static_assert(Vector == 1 || Vector == 4);

  __device__ bool inside(int i, const GemmTap& tap) const {
    return static_cast<unsigned>(top_[i] + tap.h) < static_cast<unsigned>(p_.ih) &&
           static_cast<unsigned>(left_[i] + tap.w) < static_cast<unsigned>(p_.iw);
  }

  static __device__ int pixel(int i) {
    return Vector == 4 ? threadIdx.x / kAcross + i * (Tile::kThreads / kAcross) : threadIdx.x % Tile::kRows;
  }
  static __device__ int depth(int i) {
    if (Vector == 4) return threadIdx.x % kAcross * Vector;
    return threadIdx.x / Tile::kRows + i * (Tile::kThreads / Tile::kRows);
  }

  const ConvGemm<float>& p_;
  const float* input_[kPixels];
  const GemmTap* table_;
  int top_[kPixels], left_[kPixels];
  float4 values_[kPixels];
};

// Packed weights lie as the tile does.
template <typename Tile>
class WeightLoader {
 public:
  // `weight` is that of the tile's first column.
  __device__ WeightLoader(const ConvGemm<float>& p, const float* weight)
      : p_(p), weight_(weight + int64_t{row()} * p.columns + column()) {}

  __device__ void load(int k, float (&b)[Tile::kDepth][Tile::kColumnPitch]) {
#pragma unroll
    for (int i = 0; i < Tile::kDepth; i += kRows)
      cp_async<16>(&b[row() + i][column()], weight_ + int64_t{k + i} * p_.columns, true);
  }

 private:
  static constexpr int kAcross = Tile::kColumns / 4;
  static constexpr int kRows = Tile::kThreads / kAcross;
  static __device__ int row() { return threadIdx.x / kAcross; }
  static __device__ int column() { return threadIdx.x % kAcross * 4; }

  const ConvGemm<float>& p_;
  const float* weight_;
};

// The thread's sums to the output, four pixels or four filters at once where they lie together.
template <typename Tile, StoreOrder Order>
__device__ void store_sums(const ConvGemm<float>& p, const typename Tile::Shared& shared, int first_column,
                           const Finish& finish, const typename Tile::Sums& sums) {
  constexpr int kRows = Order == StoreOrder::kPixels ? 4 : 1, kColumns = Order == StoreOrder::kFilters ? 4 : 1;
  struct alignas(4 * kRows * kColumns) Lanes {
    float lane[kRows * kColumns];
  };
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; i += kRows) {
    const int64_t at = shared.output[Tile::first_row() + i / 4 * 32 + i % 4];
#pragma unroll
    for (int j = 0; j < Tile::kThreadColumns; j += kColumns) {
      const int filter = first_column + Tile::first_column() + j / 4 * 16 + j % 4;
      if (at < 0 || filter >= p.filters) continue;
      Lanes& output = *reinterpret_cast<Lanes*>(p.output.data + at + filter * p.output.c);
      Lanes y = finish.add ? output : Lanes{};
#pragma unroll
      for (int b = 0; b < kRows * kColumns; ++b) {
        const int row = i + b % kRows, column = j + b % kColumns;
        const float bias = p.bias ? p.bias[static_cast<int>(blockIdx.y) * p.filters + filter + column - j] : 0.0f;
        y.lane[b] = finish(sums[row][column], y.lane[b], bias);
      }
      output = y;
    }
  }
}

// The thread's sums, pooled: its four rows are a window.
template <typename Tile>
__device__ void store_pooled(const ConvGemm<float>& p, const typename Tile::Shared& shared, int first_column,
                             const typename Tile::Sums& sums) {
  const Finish finish{false, true, p.relu};
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; i += 4) {
    const int row = Tile::first_row() + 8 * i;
    const int64_t at = shared.output[row];
#pragma unroll
    for (int j = 0; j < Tile::kThreadColumns; ++j) {
      const int filter = first_column + Tile::first_column() + j / 4 * 16 + j % 4;
      if (at < 0 || filter >= p.filters) continue;
      const float bias = p.bias ? p.bias[static_cast<int>(blockIdx.y) * p.filters + filter] : 0.0f;
      float results[4];
#pragma unroll
      for (int b = 0; b < 4; ++b) results[b] = finish(sums[i + b][j], 0.0f, bias);
      store_window(p, results, shared.output[row + 1], at + filter * p.output.c);
    }
  }
}

// Blocks of gemm_grid.
template <typename Tile, int Vector, bool Pooled>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks) conv2d_ffma_kernel(const ConvGemm<float> p) {
  auto& shared = shared_memory<typename Tile::Shared>();
  const auto [phase, first_row, first_column, split, begin, depth] = GemmBlock<Tile>(p);
  if (first_row >= phase_rows(p, phase)) return;
  const int padded = static_cast<int>(padded_depth(p.channels * phase.kh * phase.kw));

  write_row_offsets<Tile::kRows, kApart<Pooled>>(p, phase, split, first_row, shared.output);
  PatchLoader<Tile, Vector, Pooled> patches(p, phase, first_row);
  WeightLoader<Tile> weights(
      p, p.packed + phase.packed + static_cast<int64_t>(blockIdx.y) * padded * p.columns + first_column);

  const int end = begin + depth;
  int k = begin, buffer = 0;
  if (begin < end) {
    patches.load(begin, shared.a[0]), weights.load(begin, shared.b[0]);
    patches.finish_load(shared.a[0]);
  }
  cp_async_commit(), cp_async_wait<0>();
  __syncthreads();
  typename Tile::Sums sums = {}, total = {};  // the total of a pooled output has no other place
  do {                                        // a chunk; without any in a phase of fewer taps than there are splits for
    const int stop = min(k + p.chunk, end);
    const int chunk = k;
    for (; k < stop; k += Tile::kDepth, buffer ^= 1) {
      const bool more = k + Tile::kDepth < end;
      const int next = buffer ^ 1;
      if (more) patches.load(k + Tile::kDepth, shared.a[next]), weights.load(k + Tile::kDepth, shared.b[next]);
      cp_async_commit();
      Tile::multiply(shared, buffer, sums);
      if (more) patches.finish_load(shared.a[next]);
      cp_async_wait<0>();
      __syncthreads();
    }
    if constexpr (Pooled) {
      add_sums(sums, total);
      if (k >= end) store_pooled<Tile>(p, shared, here(first_column), total);
    } else {
      const Finish finish{chunk > begin, k >= end, p.relu};
      if (p.store == StoreOrder::kPixels)
        store_sums<Tile, StoreOrder::kPixels>(p, shared, here(first_column), finish, sums);
      else if (p.store == StoreOrder::kFilters)
        store_sums<Tile, StoreOrder::kFilters>(p, shared, here(first_column), finish, sums);
      else
        store_sums<Tile, StoreOrder::kScalar>(p, shared, here(first_column), finish, sums);
    }
    clear(sums);
  } while (k < end);
}

template <typename Tile, int Vector, bool Pooled = false>
int launch_tile(const ConvGemm<float>& p, void* stream) {
  return launch(conv2d_ffma_kernel<Tile, Vector, Pooled>, gemm_grid<Tile>(p), stream, p);
}

}  // namespace

int launch_conv2d_ffma(const ConvGemm<float>& p, GemmTile tile, void* stream) {
  using Large = FfmaTile<128, 128, 8>;
  using Medium = FfmaTile<128, 64, 8>;
  using Small = FfmaTile<64, 64, 4>;
  const bool vectors = p.vector == 4;
  if (p.pooled) return vectors ? launch_tile<Small, 4, true>(p, stream) : launch_tile<Small, 1, true>(p, stream);
  if (tile == GemmTile::k128x128) return vectors ? launch_tile<Large, 4>(p, stream) : launch_tile<Large, 1>(p, stream);
  if (tile == GemmTile::k128x64) return vectors ? launch_tile<Medium, 4>(p, stream) : launch_tile<Medium, 1>(p, stream);
  return vectors ? launch_tile<Small, 4>(p, stream) : launch_tile<Small, 1>(p, stream);
}

}  // namespace convkit::cuda
