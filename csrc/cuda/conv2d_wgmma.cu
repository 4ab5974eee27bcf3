// Convolution on Hopper's tensor cores: bfloat16 and float16, and float32 rounded to TF32, of images that are read by
// vectors of channels; sm_90a alone.
#include "cuda/conv2d_gemm_grid.cuh"
#include "cuda/conv2d_gemm_launch.h"
#include "cuda/conv2d_mma.cuh"
#include "cuda/conv2d_mma_store.cuh"
#include "cuda/conv2d_pixel.cuh"
#include "cuda/conv2d_wgmma.cuh"
#include "cuda/launch.cuh"

namespace convkit::cuda {
namespace {

// What a thread loads: of each of kPixels rows a vector of the channels of a step, and its share of the weights.
template <typename Tile>
class VectorLoader {
  using T = typename Tile::Element;

 public:
  __device__ VectorLoader(const ConvGemm<T>& p, const GemmPhase& phase, int64_t first_row, int first_column,
                          int first_k, int run)
      : p_(p), k_(first_k), run_(run) {
    Pixel at = pixel_at(phase, first_row + row(0));
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      top_[i] = at.n < p.n ? at.h * p.stride_h + phase.top : kNoPixel;
      left_[i] = at.w * p.stride_w + phase.left;
      input_[i] = p.input.data + at.n * p.input.n + int64_t{blockIdx.y} * p.channels * p.input.c + top_[i] * p.input.h +
                  left_[i] * p.input.w;
      advance(phase, at, kAcross);
    }
    table_ = p.table + phase.table;
    padded_ = static_cast<int>(padded_depth(p.channels * phase.kh * phase.kw));
    weight_ = p.packed + phase.packed + (int64_t{blockIdx.y} * p.columns + first_column) * padded_;
    weight_ += int64_t{first_k} * 64;
    k_ -= first_k / Tile::kDepth % run * Tile::kDepth;
    look_ahead();
  }

  template <typename Operand>
  __device__ void load_patches(Operand& a) {
#pragma unroll
    for (int i = 0; i < kPixels; ++i)
      if (has(i)) cp_async<16>(a.at(row(i), along()), input_[i] + tap_.offset, inside(i));
    k_ += run_ * Tile::kDepth;
    look_ahead();
  }

  // Rounds to TF32 what the thread has loaded and waited for: wgmma would cut it.
  template <typename Operand>
  __device__ void round(Operand& a) const {
    if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (int i = 0; i < kPixels; ++i) {
        if (!has(i)) continue;
        uint4& x = *reinterpret_cast<uint4*>(a.at(row(i), along()));
        const auto rounded = [](unsigned bits) { return to_tf32(__uint_as_float(bits)); };
        x = {rounded(x.x), rounded(x.y), rounded(x.z), rounded(x.w)};
      }
    }
  }

  // By one thread.
  template <typename Operand>
  __device__ void load_weights(ArrivalBarrier& arrival, Operand& b) {
    arrival.expect(sizeof(b));
#pragma unroll
    for (int i = 0; i < Tile::kColumns; i += 64)
      arrival.copy(b.data + i * b.kRowBytes, weight_ + int64_t{i} * padded_, 64 * b.kRowBytes);
    weight_ += 64 * Tile::kDepth;
  }

 private:
  static constexpr int kLanes = 16 / static_cast<int>(sizeof(T));  // of a vector
  static constexpr int kAlong = Tile::kDepth / kLanes;             // threads side by side along the depth
  static constexpr int kAcross = Tile::kThreads / kAlong;
  static constexpr int kPixels = Tile::kRows / kAcross + 1;
  static_assert(kMoreRows <= kAcross);

  static __device__ int along() { return static_cast<int>(threadIdx.x) % kAlong * kLanes; }
  static __device__ int across() { return static_cast<int>(threadIdx.x) / kAlong; }
  static __device__ int row(int i) { return across() + i * kAcross; }

  static __device__ bool has(int i) { return i < Tile::kRows / kAcross || across() < kMoreRows; }

  // The tap of the next patches, early: the addresses wait for it.
  __device__ void look_ahead() { tap_ = table_[(min(k_, padded_ - Tile::kDepth) + along()) / kLanes]; }

  __device__ bool inside(int i) const {
    return static_cast<unsigned>(top_[i] + tap_.h) < static_cast<unsigned>(p_.ih) &&
           static_cast<unsigned>(left_[i] + tap_.w) < static_cast<unsigned>(p_.iw);
  }

  const ConvGemm<T>& p_;
  const T* input_[kPixels];
  const T* weight_;
  const GemmTap* table_;
  int top_[kPixels], left_[kPixels];
  int padded_, run_;
  int k_;  // of the next patches
  GemmTap tap_;
};

// Blocks of gemm_grid.
template <typename Tile, typename T = typename Tile::Element>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks) conv2d_wgmma_kernel(const ConvGemm<T> p) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  auto& shared = shared_memory<typename Tile::Shared>();
  const auto [phase, first_row, first_column, split, begin, depth] = GemmBlock<Tile>(p);
  if (first_row >= phase_rows(p, phase)) return;
  write_row_offsets<Tile::kRows, 0>(p, phase, split, first_row, shared.output);
  write_bias<Tile>(p, first_column, shared);
  const int run = p.shifted ? max(phase.kw, 1) : 1;
  VectorLoader<Tile> loader(p, phase, first_row, first_column, begin, run);
  const int chunk = sizeof(T) == 4 ? p.chunk : max(depth, Tile::kDepth);
  wgmma_main_loop<Tile>(shared, loader, depth, chunk, begin / Tile::kDepth % run, run, phase.dilation_w,
                        [&](typename Tile::Sums& sums, const Chunk& done) {
                          const Finish finish{done.begin > 0, done.last, p.relu};
                          if (p.store == StoreOrder::kFilters)
                            store_vectors<Tile>(p, shared, here(first_column), finish, sums);
                          else
                            store_sums<Tile>(p, shared, here(first_column), finish, sums);
                          clear(sums);
                        });
#endif
}

template <typename T, int Rows, int Columns, int Stages, int Blocks, bool Overlap>
int launch_tile(const ConvGemm<T>& p, void* stream) {
  using Tile = WgmmaTile<T, Rows, Columns, Stages, Blocks, Overlap>;
  return launch(conv2d_wgmma_kernel<Tile>, gemm_grid<Tile>(p), stream, p);
}

}  // namespace

template <typename T>
int launch_conv2d_wgmma(const ConvGemm<T>& p, GemmTile tile, void* stream) {
  switch (tile) {
    case GemmTile::k64x64:
      return launch_tile<T, 64, 64, 4, 3, true>(p, stream);
    case GemmTile::k64x128:
      return launch_tile<T, 64, 128, 4, 2, true>(p, stream);
    case GemmTile::k128x64:
      return launch_tile<T, 128, 64, 3, 2, false>(p, stream);
    case GemmTile::k128x128:
      return launch_tile<T, 128, 128, 3, 2, false>(p, stream);
  }
  return 0;
}

template int launch_conv2d_wgmma(const ConvGemm<float>&, GemmTile, void*);
template int launch_conv2d_wgmma(const ConvGemm<Half>&, GemmTile, void*);
template int launch_conv2d_wgmma(const ConvGemm<BFloat16>&, GemmTile, void*);

}  // namespace convkit::cuda
