// Convolution on tensor cores: bfloat16 and float16, float32 rounded to TF32, and float32 in two TF32 parts.
#include "cuda/conv2d_gemm_launch.h"
#include "cuda/conv2d_mma_kernel.cuh"

namespace convkit::cuda {
namespace {

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
