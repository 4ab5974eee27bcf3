// Convolution on tensor cores: bfloat16 and float16, float32 rounded to TF32, and float32 in two TF32 parts.
#include "cuda/conv2d_gemm_grid.cuh"
#include "cuda/conv2d_gemm_launch.h"
#include "cuda/conv2d_mma.cuh"
#include "cuda/conv2d_mma_store.cuh"
#include "cuda/conv2d_pixel.cuh"
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
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      const Pixel at = row_pixel<kApart<Pooled>>(phase, first_row + line(i));
      top_[i] = at.n < p.n ? at.h * p.stride_h + phase.top : kNoPixel;
      left_[i] = at.w * p.stride_w + phase.left;
      input_[i] = p.input.data + at.n * p.input.n + int64_t{blockIdx.y} * p.channels * p.input.c + top_[i] * p.input.h +
                  left_[i] * p.input.w;
    }
    table_ = p.table + phase.table;
    const int padded = static_cast<int>(padded_depth(p.channels * phase.kh * phase.kw));
    padded_ = padded;
    if constexpr (Vector > 1) look_ahead();
    weight_ = p.packed + phase.packed + (int64_t{blockIdx.y} * p.columns + first_column + across()) * padded + along();
  }

  __device__ void load(Stage& stage) {
    load_weight(stage);
    if constexpr (Vector > 1) {
#pragma unroll
      for (int i = 0; i < kPixels; ++i)
        cp_async<16>(stage.a.at(line(i), along()), input_[i] + tap_.offset, inside(i, tap_));
    } else {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const GemmTap tap = table_[k_ + depth(i)];
        if constexpr (sizeof(T) == 4) {
          cp_async<4>(stage.a.at(line(0), depth(i)), input_[0] + tap.offset, inside(0, tap));
        } else {
          const unsigned low = inside(0, tap) ? input_[0][tap.offset].bits : 0;
          const unsigned high = inside(1, tap) ? input_[1][tap.offset].bits : 0;
          pairs_[i] = low | high << 16;
        }
      }
    }
    k_ += Tile::kDepth;
    if constexpr (Vector > 1) look_ahead();
  }

  __device__ void finish_load(Stage& stage) const {
    if constexpr (Vector == 1 && sizeof(T) == 2) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) *reinterpret_cast<unsigned*>(stage.a.at(line(0), depth(i))) = pairs_[i];
    }
  }

 private:
  static constexpr int kLanes = 16 / static_cast<int>(sizeof(T));  // of a vector
  static constexpr int kAlong = Tile::kDepth / kLanes;             // threads side by side along the depth
  static constexpr int kAcross = Tile::kThreads / kAlong;
  static constexpr int kPixels = Vector > 1 ? Tile::kRows / kAcross : 4 / static_cast<int>(sizeof(T));
  static constexpr int kLines = Tile::kRows / kPixels;  // threads side by side along the rows, without vectors
  static constexpr int kLoads = Vector > 1 ? 1 : Tile::kDepth* kLines / Tile::kThreads;
  static_assert(Vector == 1 || Vector == kLanes);

  // The thread's place among vectors of the depth.
  static __device__ int along() { return static_cast<int>(threadIdx.x) % kAlong * kLanes; }
  static __device__ int across() { return static_cast<int>(threadIdx.x) / kAlong; }

  static __device__ int line(int i) {
    return Vector > 1 ? across() + i * kAcross : static_cast<int>(threadIdx.x) % kLines * kPixels + i;
  }
  static __device__ int depth(int i) {  // of single elements
    return static_cast<int>(threadIdx.x) / kLines + i * (Tile::kThreads / kLines);
  }

  // The tap of the step at hand, early: the addresses wait for it.
  __device__ void look_ahead() { tap_ = table_[(min(k_, padded_ - Tile::kDepth) + along()) / Vector]; }

  __device__ bool inside(int i, const GemmTap& tap) const {
    return static_cast<unsigned>(top_[i] + tap.h) < static_cast<unsigned>(p_.ih) &&
           static_cast<unsigned>(left_[i] + tap.w) < static_cast<unsigned>(p_.iw);
  }

  __device__ void load_weight(Stage& stage) const {
#pragma unroll
    for (int i = 0; i < Tile::kColumns; i += kAcross)
      cp_async<16>(stage.b.at(across() + i, along()), weight_ + int64_t{i} * padded_ + k_, true);
  }

  const ConvGemm<T>& p_;
  const T* input_[kPixels];
  const T* weight_;
  const GemmTap* table_;
  int top_[kPixels], left_[kPixels];
  int padded_, k_;
  GemmTap tap_;
  unsigned pairs_[kLoads];
};

// The sum of the products begin to end of a row (pixel) and a column (filter), one after another.
template <bool Pooled>
__device__ float exact_sum(const ConvGemm<float>& p, const GemmPhase& phase, int64_t row, int column, int begin,
                           int end) {
  const Pixel at = row_pixel<kApart<Pooled>>(phase, row);
  if (at.n >= p.n) return 0.0f;
  const int top = at.h * p.stride_h + phase.top, left = at.w * p.stride_w + phase.left;
  const int depth = p.channels * phase.kh * phase.kw;
  const float* input = p.input.data + at.n * p.input.n + int64_t{blockIdx.y} * p.channels * p.input.c +
                       top * p.input.h + left * p.input.w;
  const float* weight = p.packed + phase.packed + (int64_t{blockIdx.y} * p.columns + column) * padded_depth(depth);
  float sum = 0.0f;
  for (int k = begin; k < end && k < depth && sum == sum; ++k) {
    const GemmTap tap = p.table[phase.table + k / p.vector];
    const bool inside = static_cast<unsigned>(top + tap.h) < static_cast<unsigned>(p.ih) &&
                        static_cast<unsigned>(left + tap.w) < static_cast<unsigned>(p.iw);
    sum = fmaf(inside ? input[tap.offset + k % p.vector * p.input.c] : 0.0f, weight[k], sum);
  }
  return sum;
}

// Pooled, the registers of one block less: single elements and the total of three terms take them.
template <typename Tile, int Vector, bool Pooled>
constexpr int kBlocks =
    Pooled && (Vector == 1 || Tile::kThreeTerms) && Tile::kBlocks > 1 ? Tile::kBlocks - 1 : Tile::kBlocks;

// Blocks of gemm_grid.
template <typename Tile, int Vector, bool Pooled, typename T = typename Tile::Element>
__global__ void __launch_bounds__(Tile::kThreads, (kBlocks<Tile, Vector, Pooled>))
    conv2d_mma_kernel(const ConvGemm<T> p) {
  auto& shared = shared_memory<typename Tile::Shared>();
  const auto [phase, first_row, first_column, split, begin, depth] = GemmBlock<Tile>(p);
  if (first_row >= phase_rows(p, phase)) return;
  write_row_offsets<Tile::kRows, kApart<Pooled>>(p, phase, split, first_row, shared.output);
  write_bias<Tile>(p, first_column, shared);
  PatchLoader<Tile, Vector, Pooled> loader(p, phase, first_row, first_column, begin);
  const int chunk = sizeof(T) == 4 ? p.chunk : max(depth, Tile::kDepth);
  const auto mend_chunk = [&](typename Tile::Sums& sums, const Chunk& done) {
    if constexpr (Tile::kThreeTerms)
      mend<Tile>(sums, [&](int row, int column) {
        return exact_sum<Pooled>(p, phase, first_row + row, first_column + column, begin + done.begin,
                                 begin + done.end);
      });
  };
  if constexpr (Pooled && sizeof(T) == 2) {
    mma_main_loop<Tile>(shared, loader, depth, chunk, [&](typename Tile::Sums& sums, const Chunk& done) {
      if (done.last) store_pooled<Tile>(p, shared, here(first_column), sums);
    });
  } else if constexpr (Pooled) {
    typename Tile::Sums total = {};  // which has no other place
    mma_main_loop<Tile>(shared, loader, depth, chunk, [&](typename Tile::Sums& sums, const Chunk& done) {
      mend_chunk(sums, done);
      promote(sums, total);
      if (done.last) store_pooled<Tile>(p, shared, here(first_column), total);
    });
  } else {
    mma_main_loop<Tile>(shared, loader, depth, chunk, [&](typename Tile::Sums& sums, const Chunk& done) {
      mend_chunk(sums, done);
      const Finish finish{done.begin > 0, done.last, p.relu};
      if (p.store == StoreOrder::kFilters)
        store_vectors<Tile>(p, shared, here(first_column), finish, sums);
      else
        store_sums<Tile>(p, shared, here(first_column), finish, sums);
      clear(sums);
    });
  }
}

template <typename Tile, int Vector, bool Pooled, typename T = typename Tile::Element>
int launch_kernel(const ConvGemm<T>& p, void* stream) {
  return launch(conv2d_mma_kernel<Tile, Vector, Pooled>, gemm_grid<Tile>(p), stream, p);
}

// Vectors are stored with the products side by side, single elements with the rows: as they come.
template <typename T, int Rows, int Columns, MmaTerms Terms, bool Pooled>
int launch_tile(const ConvGemm<T>& p, void* stream) {
  constexpr int kLanes = 16 / static_cast<int>(sizeof(T));
  using Vectors = MmaTile<T, Rows, Columns, false, false, Terms>;
  using Elements = MmaTile<T, Rows, Columns, true, false, Terms>;
  return p.vector > 1 ? launch_kernel<Vectors, kLanes, Pooled>(p, stream)
                      : launch_kernel<Elements, 1, Pooled>(p, stream);
}

// Larger tiles have no registers for totals beside their sums: pooled float32 takes the small one.
template <typename T, MmaTerms Terms>
int launch_terms(const ConvGemm<T>& p, GemmTile tile, void* stream) {
  if (p.pooled) {
    if constexpr (sizeof(T) == 2) {
      if (tile == GemmTile::k128x128) return launch_tile<T, 128, 128, Terms, true>(p, stream);
      if (tile == GemmTile::k128x64) return launch_tile<T, 128, 64, Terms, true>(p, stream);
    }
    return launch_tile<T, 64, 64, Terms, true>(p, stream);
  }
  if constexpr (Terms == MmaTerms::kOne)
    if (tile == GemmTile::k128x128) return launch_tile<T, 128, 128, Terms, false>(p, stream);
  if (tile == GemmTile::k128x64) return launch_tile<T, 128, 64, Terms, false>(p, stream);
  return launch_tile<T, 64, 64, Terms, false>(p, stream);
}

}  // namespace

template <typename T>
int launch_conv2d_mma(const ConvGemm<T>& p, bool three_terms, GemmTile tile, void* stream) {
  if constexpr (sizeof(T) == 4)
    if (three_terms) return launch_terms<T, MmaTerms::kThree>(p, tile, stream);
  return launch_terms<T, MmaTerms::kOne>(p, tile, stream);
}

template int launch_conv2d_mma(const ConvGemm<float>&, bool, GemmTile, void*);
template int launch_conv2d_mma(const ConvGemm<Half>&, bool, GemmTile, void*);
template int launch_conv2d_mma(const ConvGemm<BFloat16>&, bool, GemmTile, void*);

}  // namespace convkit::cuda
