// The gradient of a convolution's weight on tensor cores: rows are filters, columns the products of a window, and the
// sum runs over output pixels.
#include "cuda/conv2d_ffma.cuh"
#include "cuda/conv2d_gemm_grid.cuh"
#include "cuda/conv2d_gemm_launch.h"
#include "cuda/conv2d_mma.cuh"
#include "cuda/conv2d_pixel.cuh"
#include "cuda/launch.cuh"

namespace convkit::cuda {
namespace {

// What a thread loads of a step of kDepth pixels: Vector filters and Vector products of each of kLoads pixels, or of
// one pixel filters and products one by one, two of them neighbours where they are of 16 bits.
template <typename Tile, int Vector>
class PixelLoader {
  using T = typename Tile::Element;
  using Stage = typename Tile::Stage;

 public:
  __device__ PixelLoader(const ConvGemm<T, float>& p, int first_row, int first_column, int64_t first_pixel, int pixels)
      : p_(p), at_(p.phases[0], first_pixel, depth(0), pixels) {
    row_ = first_row + across(0), column_ = first_column + across(0);
    grad_ = p.grad_output.data + (int64_t{blockIdx.y} * p.filters + row_) * p.grad_output.c;
    input_ = p.input.data + int64_t{blockIdx.y} * p.channels * p.input.c;
    if constexpr (Vector > 1) tap_ = tap_at(p.phases[0], 0);
  }

  __device__ void load(Stage& stage) {
    const GemmPhase& phase = p_.phases[0];
    if constexpr (Vector > 1) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const Source from = source(phase);
        cp_async<16>(stage.a.at(across(0), depth(i)), from.grad, from.there && row_ < p_.filters);
        cp_async<16>(stage.b.at(across(0), depth(i)), from.input + tap_.offset, inside(from, tap_));
        at_.advance(phase, kStep);
      }
    } else {
      const Source from = source(phase);
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int to = across(i) - across(0);
        if constexpr (sizeof(T) == 4) {
          cp_async<4>(stage.a.at(across(i), depth(0)), from.grad + to * p_.grad_output.c,
                      from.there && row_ + to < p_.filters);
          const GemmTap tap = tap_at(phase, to);
          cp_async<4>(stage.b.at(across(i), depth(0)), from.input + tap.offset, inside(from, tap));
        } else {
          grads_[i] = grad_at(from, to) | grad_at(from, to + 1) << 16;
          inputs_[i] = input_at(phase, from, to) | input_at(phase, from, to + 1) << 16;
        }
      }
      at_.advance(phase, Tile::kDepth);
    }
  }

  __device__ void finish_load(Stage& stage) const {
    if constexpr (Vector == 1 && sizeof(T) == 2) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        *reinterpret_cast<unsigned*>(stage.a.at(across(i), depth(0))) = grads_[i];
        *reinterpret_cast<unsigned*>(stage.b.at(across(i), depth(0))) = inputs_[i];
      }
    }
  }

 private:
  static constexpr int kTogether = Vector > 1 ? Vector : 4 / static_cast<int>(sizeof(T));  // of a load
  static constexpr int kLoads = Tile::kDepth * Tile::kRows / Tile::kThreads / kTogether;
  // Vectors: neighbouring threads take neighbouring filters; otherwise neighbouring pixels, as they lie in NCHW.
  static constexpr int kWide = Vector > 1 ? Tile::kRows / kTogether : Tile::kThreads / Tile::kDepth;
  static constexpr int kStep = Tile::kThreads / kWide;  // pixels between the loads of a thread, with vectors

  static __device__ int depth(int i) {
    if (Vector > 1) return static_cast<int>(threadIdx.x) / kWide + i * kStep;
    return static_cast<int>(threadIdx.x) % Tile::kDepth;
  }
  static __device__ int across(int i) {
    if (Vector > 1) return static_cast<int>(threadIdx.x) % kWide * kTogether;
    return (static_cast<int>(threadIdx.x) / Tile::kDepth + i * kWide) * kTogether;
  }

  struct Source {  // of the pixel at hand
    const T *grad, *input;
    int top, left;
    bool there;
  };
  __device__ Source source(const GemmPhase& phase) const {
    const int top = at_.h * p_.stride_h + phase.top, left = at_.w * p_.stride_w + phase.left;
    return {grad_ + at_.n * p_.grad_output.n + at_.h * p_.grad_output.h + at_.w * p_.grad_output.w,
            input_ + at_.n * p_.input.n + top * p_.input.h + left * p_.input.w, top, left, at_.inside()};
  }

  __device__ GemmTap tap_at(const GemmPhase& phase, int to) const {
    const bool there = column_ + to < p_.channels * phase.kh * phase.kw;
    return there ? p_.table[(column_ + to) / Vector] : GemmTap{0, kNoPixel, kNoPixel};
  }
  __device__ bool inside(const Source& from, const GemmTap& tap) const {
    return from.there && static_cast<unsigned>(from.top + tap.h) < static_cast<unsigned>(p_.ih) &&
           static_cast<unsigned>(from.left + tap.w) < static_cast<unsigned>(p_.iw);
  }
  __device__ unsigned grad_at(const Source& from, int to) const {
    return from.there && row_ + to < p_.filters ? from.grad[to * p_.grad_output.c].bits : 0;
  }
  __device__ unsigned input_at(const GemmPhase& phase, const Source& from, int to) const {
    const GemmTap tap = tap_at(phase, to);
    return inside(from, tap) ? from.input[tap.offset].bits : 0;
  }

  const ConvGemm<T, float>& p_;
  PixelWalk at_;
  int row_, column_;
  const T *grad_, *input_;
  GemmTap tap_;
  unsigned grads_[kLoads], inputs_[kLoads];
};

// The sum over some pixels of a row (filter) and a column (product), one after another.
__device__ inline float exact_sum(const ConvGemm<float, float>& p, int row, int column, int64_t first_pixel,
                                  int pixels) {
  const GemmPhase& phase = p.phases[0];
  if (row >= p.filters || column >= p.channels * phase.kh * phase.kw) return 0.0f;
  const GemmTap tap = p.table[column / p.vector];
  const float* grad = p.grad_output.data + (int64_t{blockIdx.y} * p.filters + row) * p.grad_output.c;
  const float* input =
      p.input.data + int64_t{blockIdx.y} * p.channels * p.input.c + tap.offset + column % p.vector * p.input.c;
  float sum = 0.0f;
  for (PixelWalk at(phase, first_pixel, 0, pixels); at.inside() && sum == sum; at.advance(phase, 1)) {
    const int top = at.h * p.stride_h + phase.top, left = at.w * p.stride_w + phase.left;
    const bool inside = static_cast<unsigned>(top + tap.h) < static_cast<unsigned>(p.ih) &&
                        static_cast<unsigned>(left + tap.w) < static_cast<unsigned>(p.iw);
    const float x = inside ? input[at.n * p.input.n + top * p.input.h + left * p.input.w] : 0.0f;
    sum = fmaf(grad[at.n * p.grad_output.n + at.h * p.grad_output.h + at.w * p.grad_output.w], x, sum);
  }
  return sum;
}

template <typename Tile, bool Pairs, typename T>
__device__ void store_sums(const ConvGemm<T, float>& p, const typename Tile::Shared& shared, int first_row, bool add,
                           const typename Tile::Sums& sums) {
  constexpr int kLanes = Pairs ? 2 : 1;
  struct alignas(4 * kLanes) Lanes {
    float lane[kLanes];
  };
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 2 * Tile::kRowTiles; ++i) {
    const int row = first_row + Tile::first_row() + 8 * i + lane / 4;
    float* output = p.output.data + (int64_t{blockIdx.y} * p.filters + row) * p.output.n;
#pragma unroll
    for (int j = 0; j < 2 * Tile::kColumnTiles; j += kLanes) {
      const int64_t at = shared.output[Tile::first_column() + j / 2 * 8 + lane % 4 * 2 + j % 2];
      if (at < 0 || row >= p.filters) continue;
      Lanes& to = *reinterpret_cast<Lanes*>(output + at);
      Lanes y = add ? to : Lanes{};
#pragma unroll
      for (int b = 0; b < kLanes; ++b) y.lane[b] += sums[i / 2][j / 2][i % 2 * 2 + (j + b) % 2];
      to = y;
    }
  }
}

// Blocks: x = tiles of rows times tiles of columns (fastest), y = groups, z = splits of the pixels. Single elements are
// loaded by way of registers, of which they take those of a second block.
template <typename Tile, int Vector, typename T = typename Tile::Element>
__global__ void __launch_bounds__(Tile::kThreads, Vector > 1 ? Tile::kBlocks : 1)
    conv2d_mma_backward_weight_kernel(const ConvGemm<T, float> p) {
  auto& shared = shared_memory<typename Tile::Shared>();
  const GemmPhase& phase = p.phases[0];
  const int products = p.channels * phase.kh * phase.kw;
  const int column_tiles = (products + Tile::kColumns - 1) / Tile::kColumns;
  const int first_row = static_cast<int>(blockIdx.x / column_tiles) * Tile::kRows;
  const int first_column = static_cast<int>(blockIdx.x % column_tiles) * Tile::kColumns;
  const int64_t all_pixels = int64_t{p.n} * phase.oh * phase.ow;
  const int64_t per_split = split_pixels(all_pixels, p.splits, p.chunk), first_pixel = blockIdx.z * per_split;
  const int pixels = static_cast<int>(clamp(all_pixels - first_pixel, 0, per_split));
  write_column_offsets<Tile::kColumns>(p, blockIdx.z, first_column, shared.output);
  PixelLoader<Tile, Vector> loader(p, first_row, first_column, first_pixel, pixels);
  const bool pairs = p.store == StoreOrder::kFilters;
  mma_main_loop<Tile>(shared, loader, pixels, p.chunk, [&](typename Tile::Sums& sums, const Chunk& done) {
    if constexpr (Tile::kThreeTerms)
      mend<Tile>(sums, [&](int row, int column) {
        return exact_sum(p, first_row + row, first_column + column, first_pixel + done.begin,
                         static_cast<int>(min(done.end, pixels)) - done.begin);
      });
    if (pairs)
      store_sums<Tile, true>(p, shared, here(first_row), done.begin > 0, sums);
    else
      store_sums<Tile, false>(p, shared, here(first_row), done.begin > 0, sums);
    clear(sums);
  });
}

template <typename Tile, int Vector, typename T = typename Tile::Element>
int launch_kernel(const ConvGemm<T, float>& p, void* stream) {
  return launch(conv2d_mma_backward_weight_kernel<Tile, Vector>, backward_weight_grid<Tile>(p), stream, p);
}

template <typename T, int Extent, MmaTerms Terms>
int launch_tile(const ConvGemm<T, float>& p, void* stream) {
  using Vectors = MmaTile<T, Extent, Extent, true, true, Terms>;
  using Elements = MmaTile<T, Extent, Extent, true, true, Terms, 32>;
  constexpr int kLanes = 16 / static_cast<int>(sizeof(T));
  return p.vector > 1 ? launch_kernel<Vectors, kLanes>(p, stream) : launch_kernel<Elements, 1>(p, stream);
}

}  // namespace

template <typename T>
int launch_conv2d_mma_backward_weight(const ConvGemm<T, float>& p, bool three_terms, GemmTile tile, void* stream) {
  const bool large = tile == GemmTile::k128x128;
  if constexpr (sizeof(T) == 4)
    if (three_terms)
      return large ? launch_tile<T, 128, MmaTerms::kThree>(p, stream) : launch_tile<T, 64, MmaTerms::kThree>(p, stream);
  return large ? launch_tile<T, 128, MmaTerms::kOne>(p, stream) : launch_tile<T, 64, MmaTerms::kOne>(p, stream);
}

template int launch_conv2d_mma_backward_weight(const ConvGemm<float, float>&, bool, GemmTile, void*);
template int launch_conv2d_mma_backward_weight(const ConvGemm<Half, float>&, bool, GemmTile, void*);
template int launch_conv2d_mma_backward_weight(const ConvGemm<BFloat16, float>&, bool, GemmTile, void*);

}  // namespace convkit::cuda
