// Convolution by float32 multiply-adds: a block gathers the window's inputs of its rows (output pixels) into shared
// memory, a few products deep, while it multiplies those before.
#include "cuda/conv2d_ffma.cuh"
#include "cuda/conv2d_gemm_launch.h"
#include "cuda/conv2d_pixel.cuh"
#include "cuda/intrinsics.cuh"

namespace convkit::cuda {
namespace {

// What a thread loads of each step of kDepth products: Vector channels of one pixel, or of one pixel kLoads products.
template <typename Tile, int Vector>
class PatchLoader {
 public:
  __device__ PatchLoader(const ConvGemm<float>& p, const GemmPhase& phase, int64_t first_row) : p_(p) {
    const int64_t row = first_row + pixel();
    const Pixel at = pixel_at(phase, row);
    const bool there = row < int64_t{p.n} * phase.oh * phase.ow;
    top_ = there ? at.h * p.stride_h + phase.top : kNoPixel;
    left_ = at.w * p.stride_w + phase.left;
    const int64_t channel = int64_t{blockIdx.y} * p.channels;
    input_ = p.input.data + at.n * p.input.n + channel * p.input.c + top_ * p.input.h + left_ * p.input.w;
    table_ = p.table + phase.table;
  }

  __device__ void load(int k) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const GemmTap tap = table_[(k + depth(i)) / Vector];
      const bool inside = static_cast<unsigned>(top_ + tap.h) < static_cast<unsigned>(p_.ih) &&
                          static_cast<unsigned>(left_ + tap.w) < static_cast<unsigned>(p_.iw);
      if constexpr (Vector == 4) {
        const float4 zero{0.0f, 0.0f, 0.0f, 0.0f};
        *reinterpret_cast<float4*>(values_) = inside ? *reinterpret_cast<const float4*>(input_ + tap.offset) : zero;
      } else {
        values_[i] = inside ? input_[tap.offset] : 0.0f;
      }
    }
  }

  __device__ void store(float (&a)[Tile::kDepth][Tile::kPitch]) const {
#pragma unroll
    for (int i = 0; i < kValues; ++i) a[Vector == 4 ? depth(0) + i : depth(i)][pixel()] = values_[i];
  }

 private:
  static constexpr int kValues = Tile::kDepth * Tile::kRows / Tile::kThreads;
  static constexpr int kLoads = kValues / Vector;
  static constexpr int kAcross = Tile::kDepth / Vector;  // threads side by side along the depth
  static_assert(kValues == 4 && (Vector == 1 || Vector == 4));

  static __device__ int pixel() { return Vector == 4 ? threadIdx.x / kAcross : threadIdx.x % Tile::kRows; }
  static __device__ int depth(int i) {
    if (Vector == 4) return threadIdx.x % kAcross * Vector;
    return threadIdx.x / Tile::kRows + i * (Tile::kThreads / Tile::kRows);
  }

  const ConvGemm<float>& p_;
  const float* input_;
  const GemmTap* table_;
  int top_, left_;
  float values_[kValues];
};

// Packed weights lie as the tile does.
template <typename Tile>
class WeightLoader {
 public:
  __device__ WeightLoader(const float* weight, int columns)
      : weight_(weight + int64_t{row()} * columns + column()), columns_(columns) {}

  __device__ void load(int k) { values_ = *reinterpret_cast<const float4*>(weight_ + int64_t{k} * columns_); }
  __device__ void store(float (&b)[Tile::kDepth][Tile::kColumnPitch]) const {
    *reinterpret_cast<float4*>(&b[row()][column()]) = values_;
  }

 private:
  static constexpr int kAcross = Tile::kColumns / 4;
  static_assert(kAcross * Tile::kDepth == Tile::kThreads);
  static __device__ int row() { return threadIdx.x / kAcross; }
  static __device__ int column() { return threadIdx.x % kAcross * 4; }

  const float* weight_;
  int columns_;
  float4 values_;
};

// The thread's sums to the output: four pixels or four filters at once where they lie together.
template <typename Tile>
__device__ void store_sums(const ConvGemm<float>& p, float* output, const typename Tile::Shared& shared,
                           int first_column, const Finish& finish, const typename Tile::Sums& sums) {
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; i += 4) {
#pragma unroll
    for (int j = 0; j < Tile::kThreadColumns; j += 4) {
      const int row = Tile::first_row() + 8 * i, column = first_column + Tile::first_column() + 4 * j;
#pragma unroll
      for (int a = 0; a < 4; ++a) {
        const int64_t at = shared.output[row + (p.store == StoreOrder::kPixels ? 0 : a)];
        const int filter = column + (p.store == StoreOrder::kPixels ? a : 0);
        if (at < 0 || filter >= p.filters) continue;
        float* to = output + at + filter * p.output.c;
        const float* bias = p.bias ? p.bias + int64_t{blockIdx.y} * p.filters + filter : nullptr;
        if (p.store == StoreOrder::kScalar) {
#pragma unroll
          for (int b = 0; b < 4; ++b)
            if (filter + b < p.filters) {
              float& y = to[b * p.output.c];
              y = finish(sums[i + a][j + b], finish.add ? y : 0.0f, bias ? bias[b] : 0.0f);
            }
          continue;
        }
        float4 y = finish.add ? *reinterpret_cast<const float4*>(to) : float4{0.0f, 0.0f, 0.0f, 0.0f};
        float* lanes = &y.x;
#pragma unroll
        for (int b = 0; b < 4; ++b)
          lanes[b] = p.store == StoreOrder::kPixels ? finish(sums[i + b][j + a], lanes[b], bias ? bias[0] : 0.0f)
                                                    : finish(sums[i + a][j + b], lanes[b], bias ? bias[b] : 0.0f);
        *reinterpret_cast<float4*>(to) = y;
      }
    }
  }
}

// Blocks: x = tiles of rows times tiles of columns (fastest), y = groups, z = phases times splits (fastest).
template <typename Tile, int Vector>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks) conv2d_ffma_kernel(const ConvGemm<float> p) {
  auto& shared = shared_memory<typename Tile::Shared>();
  const int split = blockIdx.z % p.splits;
  const GemmPhase phase = p.phases[blockIdx.z / p.splits];
  const int column_tiles = (p.filters + Tile::kColumns - 1) / Tile::kColumns;
  const int64_t first_row = int64_t{blockIdx.x / column_tiles} * Tile::kRows;
  const int first_column = static_cast<int>(blockIdx.x % column_tiles) * Tile::kColumns;
  if (first_row >= int64_t{p.n} * phase.oh * phase.ow) return;
  const int depth = p.channels * phase.kh * phase.kw;
  const int padded = static_cast<int>(padded_depth(depth));

  write_row_offsets<Tile::kRows>(p, phase, first_row, shared.output);
  PatchLoader<Tile, Vector> patches(p, phase, first_row);
  WeightLoader<Tile> weights(
      p.packed + phase.packed + static_cast<int64_t>(blockIdx.y) * padded * p.columns + first_column, p.columns);
  float* output = p.output.data + split * p.split_stride;

  int k = split * kChunkDepth;
  const int begin = k, end = p.splits > 1 ? min(begin + kChunkDepth, padded) : padded;
  int buffer = 0;
  if (begin < end) {
    patches.load(begin), weights.load(begin);
    patches.store(shared.a[0]), weights.store(shared.b[0]);
  }
  __syncthreads();
  typename Tile::Sums sums = {};
  do {  // a chunk; without any in a phase of fewer taps than there are splits for
    const int stop = min(k + kChunkDepth, end);
    const int chunk = k;
    for (; k < stop; k += Tile::kDepth, buffer ^= 1) {
      const bool more = k + Tile::kDepth < end;
      if (more) patches.load(k + Tile::kDepth), weights.load(k + Tile::kDepth);
      Tile::multiply(shared, buffer, sums);
      if (more) patches.store(shared.a[buffer ^ 1]), weights.store(shared.b[buffer ^ 1]);
      __syncthreads();
    }
    const Finish finish{chunk > begin, k >= end, p.relu};
    store_sums<Tile>(p, output, shared, first_column, finish, sums);
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i)
#pragma unroll
      for (int j = 0; j < Tile::kThreadColumns; ++j) sums[i][j] = 0.0f;
  } while (k < end);
}

template <typename Tile, int Vector>
int launch_tile(const ConvGemm<float>& p, void* stream) {
  int64_t rows = 0;
  for (int i = 0; i < p.phase_count; ++i) rows = max(rows, int64_t{p.n} * p.phases[i].oh * p.phases[i].ow);
  const int64_t tiles = ceil_div(rows, Tile::kRows) * ceil_div(p.filters, Tile::kColumns);
  const Grid grid{{static_cast<unsigned>(tiles), static_cast<unsigned>(p.groups),
                   static_cast<unsigned>(p.phase_count * p.splits)},
                  Tile::kThreads,
                  sizeof(typename Tile::Shared)};
  return launch(conv2d_ffma_kernel<Tile, Vector>, grid, stream, p);
}

}  // namespace

int launch_conv2d_ffma(const ConvGemm<float>& p, bool large_tile, void* stream) {
  if (large_tile)
    return p.vector == 4 ? launch_tile<FfmaTile<128, 128>, 4>(p, stream)
                         : launch_tile<FfmaTile<128, 128>, 1>(p, stream);
  return p.vector == 4 ? launch_tile<FfmaTile<64, 64>, 4>(p, stream) : launch_tile<FfmaTile<64, 64>, 1>(p, stream);
}

}  // namespace convkit::cuda
