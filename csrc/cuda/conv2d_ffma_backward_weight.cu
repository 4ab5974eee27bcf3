// The gradient of a convolution's weight by float32 multiply-adds: rows are filters, columns the products of a window,
// and the sum runs over output pixels.
#include "cuda/conv2d_ffma.cuh"
#include "cuda/conv2d_gemm_grid.cuh"
#include "cuda/conv2d_gemm_launch.h"
#include "cuda/conv2d_pixel.cuh"
#include "cuda/intrinsics.cuh"

namespace convkit::cuda {
namespace {

// What a thread copies of a step of kDepth pixels: of one pixel, Vector filters and Vector products, kLoads times.
template <typename Tile, int Vector>
class PixelLoader {
 public:
  __device__ PixelLoader(const ConvGemm<float>& p, int first_row, int first_column, int64_t first_pixel, int pixels)
      : p_(p), at_(p.phases[0], first_pixel, depth(), pixels) {
    row_ = first_row + across(0), column_ = first_column + across(0);
    grad_ = p.grad_output.data + (int64_t{blockIdx.y} * p.filters + row_) * p.grad_output.c;
    input_ = p.input.data + int64_t{blockIdx.y} * p.channels * p.input.c;
  }

  // Copies the step's share of this thread and goes on to the next step.
  __device__ void load(int products, float (&a)[Tile::kDepth][Tile::kPitch],
                       float (&b)[Tile::kDepth][Tile::kColumnPitch]) {
    const GemmPhase& phase = p_.phases[0];
    const bool there = at_.inside();
    const int top = at_.h * p_.stride_h + phase.top, left = at_.w * p_.stride_w + phase.left;
    const float* grad = grad_ + at_.n * p_.grad_output.n + at_.h * p_.grad_output.h + at_.w * p_.grad_output.w;
    const float* input = input_ + at_.n * p_.input.n + top * p_.input.h + left * p_.input.w;
#pragma unroll 4  // all of them would take more registers than there are
    for (int i = 0; i < kLoads; ++i) {
      const int to = across(i) - across(0);
      cp_async<4 * Vector>(&a[depth()][across(i)], grad + to * p_.grad_output.c, there && row_ + to < p_.filters);
      GemmTap tap{0, kNoPixel, kNoPixel};
      if (column_ + to < products) tap = p_.table[(column_ + to) / Vector];
      const bool inside = there && static_cast<unsigned>(top + tap.h) < static_cast<unsigned>(p_.ih) &&
                          static_cast<unsigned>(left + tap.w) < static_cast<unsigned>(p_.iw);
      cp_async<4 * Vector>(&b[depth()][across(i)], input + tap.offset, inside);
    }
    at_.advance(phase, Tile::kDepth);
  }

 private:
  static constexpr int kLoads = Tile::kDepth * Tile::kRows / Tile::kThreads / Vector;
  static constexpr int kAcross = Tile::kThreads / Tile::kDepth;  // threads of one pixel
  static_assert(Tile::kRows == Tile::kColumns && Tile::kRows == kAcross * Vector * kLoads);

  // Vectors: neighbouring threads take neighbouring filters; otherwise neighbouring pixels, as they lie in NCHW.
  static __device__ int depth() { return Vector > 1 ? threadIdx.x / kAcross : threadIdx.x % Tile::kDepth; }
  static __device__ int across(int i) {
    const int thread = Vector > 1 ? threadIdx.x % kAcross : threadIdx.x / Tile::kDepth;
    return (thread + i * kAcross) * Vector;
  }

  const ConvGemm<float>& p_;
  PixelWalk at_;
  int row_, column_;
  const float *grad_, *input_;
};

template <typename Tile, StoreOrder Order>
__device__ void store_sums(const ConvGemm<float>& p, const typename Tile::Shared& shared, int first_row, bool add,
                           const typename Tile::Sums& sums) {
  constexpr int kLanes = Order == StoreOrder::kScalar ? 1 : 4;
  struct alignas(4 * kLanes) Lanes {
    float lane[kLanes];
  };
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; ++i) {
    const int row = first_row + Tile::first_row() + i / 4 * 32 + i % 4;
    float* output = p.output.data + (int64_t{blockIdx.y} * p.filters + row) * p.output.n;
#pragma unroll
    for (int j = 0; j < Tile::kThreadColumns; j += kLanes) {
      const int64_t at = shared.output[Tile::first_column() + j / 4 * 16 + j % 4];
      if (at < 0 || row >= p.filters) continue;
      Lanes& to = *reinterpret_cast<Lanes*>(output + at);
      Lanes y = add ? to : Lanes{};
#pragma unroll
      for (int b = 0; b < kLanes; ++b) y.lane[b] += sums[i][j + b];
      to = y;
    }
  }
}

// Blocks: x = tiles of rows times tiles of columns (fastest), y = groups, z = splits of the pixels.
template <typename Tile, int Vector>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    conv2d_ffma_backward_weight_kernel(const ConvGemm<float> p) {
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
  loader.load(products, shared.a[0], shared.b[0]);
  cp_async_commit(), cp_async_wait<0>();
  __syncthreads();
  typename Tile::Sums sums = {};
  int done = 0, buffer = 0;
  do {  // a chunk
    const bool add = done > 0;
    const int stop = static_cast<int>(min(done + p.chunk, pixels));
    for (; done < stop; done += Tile::kDepth, buffer ^= 1) {
      const int next = buffer ^ 1;
      if (done + Tile::kDepth < pixels) loader.load(products, shared.a[next], shared.b[next]);
      cp_async_commit();
      Tile::multiply(shared, buffer, sums);
      cp_async_wait<0>();
      __syncthreads();
    }
    if (p.store == StoreOrder::kFilters)
      store_sums<Tile, StoreOrder::kFilters>(p, shared, here(first_row), add, sums);
    else
      store_sums<Tile, StoreOrder::kScalar>(p, shared, here(first_row), add, sums);
    clear(sums);
  } while (done < pixels);
}

template <typename Tile, int Vector>
int launch_tile(const ConvGemm<float>& p, void* stream) {
  return launch(conv2d_ffma_backward_weight_kernel<Tile, Vector>, backward_weight_grid<Tile>(p), stream, p);
}

}  // namespace

int launch_conv2d_ffma_backward_weight(const ConvGemm<float>& p, GemmTile tile, void* stream) {
  using Large = FfmaTile<128, 128, 8>;
  using Small = FfmaTile<64, 64, 4>;
  const bool vectors = p.vector == 4;
  if (tile == GemmTile::k128x128) return vectors ? launch_tile<Large, 4>(p, stream) : launch_tile<Large, 1>(p, stream);
  return vectors ? launch_tile<Small, 4>(p, stream) : launch_tile<Small, 1>(p, stream);
}

}  // namespace convkit::cuda
