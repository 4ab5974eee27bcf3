// Convolution on tensor cores: bfloat16 and float16, float32 rounded to TF32, and float32 in two TF32 parts.
#include "cuda/conv2d_ffma.cuh"
#include "cuda/conv2d_gemm_launch.h"
#include "cuda/conv2d_mma.cuh"
#include "cuda/conv2d_pixel.cuh"
#include "cuda/conv2d_pooled.cuh"
#include "cuda/launch.cuh"

namespace convkit::cuda {
namespace {

// What a thread loads of each step of kDepth products: of kPixels pixels Vector channels, or of kPixels neighbouring
// pixels kLoads products one by one; and its share of the packed weights.
template <typename Tile, int Vector, bool Pooled>
class PatchLoader {
  using T = typename Tile::Element;
  using Stage = typename Tile::Stage;

 public:
  __device__ PatchLoader(const ConvGemm<T>& p, const GemmPhase& phase, int64_t first_row, int first_column, int first_k)
      : p_(p), k_(first_k) {
    const int64_t rows = phase_rows(p, phase);
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      const Pixel at = row_pixel<Pooled>(phase, first_row + line(i));
      top_[i] = first_row + line(i) < rows ? at.h * p.stride_h + phase.top : kNoPixel;
      left_[i] = at.w * p.stride_w + phase.left;
      input_[i] = p.input.data + at.n * p.input.n + int64_t{blockIdx.y} * p.channels * p.input.c + top_[i] * p.input.h +
                  left_[i] * p.input.w;
    }
    table_ = p.table + phase.table;
    const int padded = static_cast<int>(padded_depth(p.channels * phase.kh * phase.kw));
    if (kWeightDepthInner) weight_pitch_ = padded;
    const int inner = static_cast<int>(threadIdx.x) % kWide * kLanes, outer = static_cast<int>(threadIdx.x) / kWide;
    weight_ = p.packed + phase.packed + int64_t{blockIdx.y} * padded * p.columns +
              (kWeightDepthInner ? int64_t{first_column + outer} * padded + inner
                                 : int64_t{outer} * p.columns + first_column + inner);
  }

  __device__ void load(Stage& stage) {
    load_weight(stage);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const GemmTap tap = table_[(k_ + depth(i)) / Vector];
      if constexpr (Vector > 1) {
#pragma unroll
        for (int j = 0; j < kPixels; ++j)
          cp_async<16>(stage.a.at(line(j), depth(i)), input_[j] + tap.offset, inside(j, tap));
      } else if constexpr (sizeof(T) == 4) {
        cp_async<4>(stage.a.at(line(0), depth(i)), input_[0] + tap.offset, inside(0, tap));
      } else {
        const unsigned low = inside(0, tap) ? input_[0][tap.offset].bits : 0;
        const unsigned high = inside(1, tap) ? input_[1][tap.offset].bits : 0;
        pairs_[i] = low | high << 16;
      }
    }
    k_ += Tile::kDepth;
  }

  __device__ void finish_load(Stage& stage) const {
    if constexpr (Vector == 1 && sizeof(T) == 2) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) *reinterpret_cast<unsigned*>(stage.a.at(line(0), depth(i))) = pairs_[i];
    }
  }

 private:
  static constexpr bool kWeightDepthInner = decltype(Stage::b)::kDepthInner;
  static constexpr int kLanes = 16 / static_cast<int>(sizeof(T));  // of a vector of weights
  static constexpr int kAcross = Tile::kDepth / kLanes;            // vectors side by side along the depth
  static constexpr int kWide = kWeightDepthInner ? kAcross : Tile::kColumns / kLanes;  // threads, of the weights
  static constexpr int kPixels = Vector > 1 ? Tile::kRows* kAcross / Tile::kThreads : 4 / static_cast<int>(sizeof(T));
  static constexpr int kLines = Tile::kRows / kPixels;  // threads side by side along the rows, without vectors
  static constexpr int kLoads = Vector > 1 ? 1 : Tile::kDepth* kLines / Tile::kThreads;
  static_assert(Vector == 1 || Vector == kLanes);

  static __device__ int line(int i) {
    if (Vector > 1) return static_cast<int>(threadIdx.x) / kAcross + i * (Tile::kThreads / kAcross);
    return static_cast<int>(threadIdx.x) % kLines * kPixels + i;
  }
  static __device__ int depth(int i) {
    if (Vector > 1) return static_cast<int>(threadIdx.x) % kAcross * Vector;
    return static_cast<int>(threadIdx.x) / kLines + i * (Tile::kThreads / kLines);
  }

  __device__ bool inside(int i, const GemmTap& tap) const {
    return static_cast<unsigned>(top_[i] + tap.h) < static_cast<unsigned>(p_.ih) &&
           static_cast<unsigned>(left_[i] + tap.w) < static_cast<unsigned>(p_.iw);
  }

  __device__ void load_weight(Stage& stage) const {
    constexpr int kHeight = kWeightDepthInner ? Tile::kColumns : Tile::kDepth;
    const int inner = static_cast<int>(threadIdx.x) % kWide * kLanes, outer = static_cast<int>(threadIdx.x) / kWide;
#pragma unroll
    for (int i = 0; i < kHeight; i += Tile::kThreads / kWide) {
      if constexpr (kWeightDepthInner)
        cp_async<16>(stage.b.at(outer + i, inner), weight_ + int64_t{i} * weight_pitch_ + k_, true);
      else
        cp_async<16>(stage.b.at(inner, outer + i), weight_ + int64_t{k_ + i} * p_.columns, true);
    }
  }

  const ConvGemm<T>& p_;
  const T* input_[kPixels];
  const T* weight_;
  const GemmTap* table_;
  int top_[kPixels], left_[kPixels];
  int weight_pitch_, k_;
  unsigned pairs_[kLoads];
};

// The thread's sums to the output: two filters at once where they lie together.
template <typename Tile, bool Pairs, typename T>
__device__ void store_sums(const ConvGemm<T>& p, const typename Tile::Shared& shared, int first_column,
                           const Finish& finish, const typename Tile::Sums& sums) {
  constexpr int kLanes = Pairs ? 2 : 1;
  struct alignas(sizeof(T) * kLanes) Lanes {
    T lane[kLanes];
  };
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 2 * Tile::kRowTiles; ++i) {
    const int64_t at = shared.output[Tile::first_row() + 8 * i + lane / 4];
#pragma unroll
    for (int j = 0; j < 2 * Tile::kColumnTiles; j += kLanes) {
      const int filter = first_column + Tile::first_column() + j / 2 * 8 + lane % 4 * 2 + j % 2;
      if (at < 0 || filter >= p.filters) continue;
      Lanes& output = *reinterpret_cast<Lanes*>(p.output.data + at + filter * p.output.c);
      Lanes y{};
      if (sizeof(T) == 4 && finish.add) y = output;  // 16-bit sums stay in registers, all of them
#pragma unroll
      for (int b = 0; b < kLanes; ++b) {
        const float bias =
            p.bias ? static_cast<float>(p.bias[static_cast<int>(blockIdx.y) * p.filters + filter + b]) : 0.0f;
        const float sum = sums[i / 2][j / 2][i % 2 * 2 + (j + b) % 2];
        y.lane[b] = T(finish(sum, static_cast<float>(y.lane[b]), bias));
      }
      output = y;
    }
  }
}

// The thread's sums, pooled: the four lanes of neighbouring rows exchange the results of a window.
template <typename Tile, typename T>
__device__ void store_pooled(const ConvGemm<T>& p, const typename Tile::Shared& shared, int first_column,
                             const typename Tile::Sums& sums) {
  const Finish finish{false, true, p.relu};
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 2 * Tile::kRowTiles; ++i) {
    const int row = Tile::first_row() + 8 * i + lane / 4;
    const int64_t at = shared.output[row / 4 * 4];
#pragma unroll
    for (int j = 0; j < 2 * Tile::kColumnTiles; ++j) {
      const int filter = first_column + Tile::first_column() + j / 2 * 8 + lane % 4 * 2 + j % 2;
      const bool there = at >= 0 && filter < p.filters;
      const float bias =
          there && p.bias ? static_cast<float>(p.bias[static_cast<int>(blockIdx.y) * p.filters + filter]) : 0.0f;
      const T result = T(finish(sums[i / 2][j / 2][i % 2 * 2 + j % 2], 0.0f, bias));
      T results[4];
#pragma unroll
      for (int tap = 0; tap < 4; ++tap)
        results[tap] = T(__shfl_sync(kFullWarp, static_cast<float>(result), (lane & ~12) | tap * 4));
      if (there && lane / 4 % 4 == 0) store_window(p, results, shared.output[row + 1], at + filter * p.output.c);
    }
  }
}

// Pooled, the registers of one block less: single elements and the total of three terms take them.
template <typename Tile, int Vector, bool Pooled>
constexpr int kBlocks =
    Pooled && (Vector == 1 || Tile::kThreeTerms) && Tile::kBlocks > 1 ? Tile::kBlocks - 1 : Tile::kBlocks;

// Blocks: x = tiles of rows times tiles of columns (fastest), y = groups, z = phases times splits (fastest).
template <typename Tile, int Vector, bool Pooled, typename T = typename Tile::Element>
__global__ void __launch_bounds__(Tile::kThreads, (kBlocks<Tile, Vector, Pooled>))
    conv2d_mma_kernel(const ConvGemm<T> p) {
  auto& shared = shared_memory<typename Tile::Shared>();
  const int split = blockIdx.z % p.splits;
  const GemmPhase phase = p.phases[blockIdx.z / p.splits];
  const int column_tiles = (p.filters + Tile::kColumns - 1) / Tile::kColumns;
  const int64_t first_row = int64_t{blockIdx.x / column_tiles} * Tile::kRows;
  const int first_column = static_cast<int>(blockIdx.x % column_tiles) * Tile::kColumns;
  if (first_row >= phase_rows(p, phase)) return;
  write_row_offsets<Tile::kRows, Pooled>(p, phase, split, first_row, shared.output);
  const int padded = static_cast<int>(padded_depth(p.channels * phase.kh * phase.kw));
  const int begin = split * p.chunk;
  const int depth = p.splits > 1 ? static_cast<int>(clamp(padded - begin, 0, p.chunk)) : padded;
  PatchLoader<Tile, Vector, Pooled> loader(p, phase, first_row, first_column, begin);
  const int chunk = sizeof(T) == 4 ? p.chunk : padded;
  if constexpr (Pooled && sizeof(T) == 2) {
    mma_main_loop<Tile>(shared, loader, depth, chunk, [&](typename Tile::Sums& sums, bool, bool last) {
      if (last) store_pooled<Tile>(p, shared, here(first_column), sums);
    });
  } else if constexpr (Pooled) {
    typename Tile::Sums total = {};  // which has no other place
    mma_main_loop<Tile>(shared, loader, depth, chunk, [&](typename Tile::Sums& sums, bool, bool last) {
      promote(sums, total);
      if (last) store_pooled<Tile>(p, shared, here(first_column), total);
    });
  } else {
    const bool pairs = p.store == StoreOrder::kFilters;
    mma_main_loop<Tile>(shared, loader, depth, chunk, [&](typename Tile::Sums& sums, bool add, bool last) {
      const Finish finish{add, last, p.relu};
      if (pairs)
        store_sums<Tile, true>(p, shared, here(first_column), finish, sums);
      else
        store_sums<Tile, false>(p, shared, here(first_column), finish, sums);
      clear(sums);
    });
  }
}

template <typename Tile, int Vector, bool Pooled, typename T = typename Tile::Element>
int launch_kernel(const ConvGemm<T>& p, void* stream) {
  int64_t rows = 0;
  for (int i = 0; i < p.phase_count; ++i) rows = max(rows, phase_rows(p, p.phases[i]));
  const int64_t tiles = ceil_div(rows, Tile::kRows) * ceil_div(p.filters, Tile::kColumns);
  const Grid grid{
      {static_cast<unsigned>(tiles), static_cast<unsigned>(p.groups), static_cast<unsigned>(p.phase_count * p.splits)},
      Tile::kThreads,
      sizeof(typename Tile::Shared)};
  return launch(conv2d_mma_kernel<Tile, Vector, Pooled>, grid, stream, p);
}

// Vectors are stored with the products side by side, single elements with the rows: as they come.
template <typename T, int Extent, MmaTerms Terms, bool Pooled>
int launch_tile(const ConvGemm<T>& p, void* stream) {
  constexpr bool kColumnsInner = sizeof(T) == 4;
  constexpr int kLanes = 16 / static_cast<int>(sizeof(T));
  using Products = MmaTile<T, Extent, Extent, false, kColumnsInner, Terms>;
  using Rows = MmaTile<T, Extent, Extent, true, kColumnsInner, Terms>;
  return p.vector > 1 ? launch_kernel<Products, kLanes, Pooled>(p, stream) : launch_kernel<Rows, 1, Pooled>(p, stream);
}

// The large tile has no registers for totals beside its sums: pooled float32 takes the small one.
template <typename T, MmaTerms Terms>
int launch_terms(const ConvGemm<T>& p, bool large_tile, void* stream) {
  if (p.pooled) {
    if constexpr (sizeof(T) == 2)
      if (large_tile) return launch_tile<T, 128, Terms, true>(p, stream);
    return launch_tile<T, 64, Terms, true>(p, stream);
  }
  return large_tile ? launch_tile<T, 128, Terms, false>(p, stream) : launch_tile<T, 64, Terms, false>(p, stream);
}

}  // namespace

template <typename T>
int launch_conv2d_mma(const ConvGemm<T>& p, bool three_terms, bool large_tile, void* stream) {
  if constexpr (sizeof(T) == 4)
    if (three_terms) return launch_terms<T, MmaTerms::kThree>(p, large_tile, stream);
  return launch_terms<T, MmaTerms::kOne>(p, large_tile, stream);
}

template int launch_conv2d_mma(const ConvGemm<float>&, bool, bool, void*);
template int launch_conv2d_mma(const ConvGemm<Half>&, bool, bool, void*);
template int launch_conv2d_mma(const ConvGemm<BFloat16>&, bool, bool, void*);

}  // namespace convkit::cuda
