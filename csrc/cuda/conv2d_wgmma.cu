// Convolution on Hopper's tensor cores: bfloat16 and float16, and float32 rounded to TF32; sm_90a alone.
#include "cuda/conv2d_gemm_launch.h"
#include "cuda/conv2d_mma_kernel.cuh"
#include "cuda/conv2d_wgmma.cuh"

namespace convkit::cuda {
namespace {

template <typename T, int Rows, int Columns, int Stages, int Blocks, bool Overlap, bool Past, bool Pooled = false>
int launch_tile(const ConvGemm<T>& p, void* stream) {
  return launch_kernel<WgmmaTile<T, Rows, Columns, Stages, Blocks, Overlap, Past>, 16 / static_cast<int>(sizeof(T)),
                       Pooled>(p, stream);
}

}  // namespace

template <typename T>
int launch_conv2d_wgmma(const ConvGemm<T>& p, GemmTile tile, void* stream) {
  if (p.pooled) {  // a window is four rows of a thread: it needs two blocks of them
    if constexpr (sizeof(T) == 2)
      if (tile_columns(tile) > 64) return launch_tile<T, 128, 128, 3, 2, false, false, true>(p, stream);
    return launch_tile<T, 128, 64, 3, 2, false, false, true>(p, stream);
  }
  switch (static_cast<int>(tile)) {
    case 0:
      return launch_tile<T, 64, 64, 4, 3, true, false>(p, stream);
    case 1:
      return launch_tile<T, 128, 64, 3, sizeof(T) == 4 ? 2 : 3, false, false>(p, stream);
    case 2:
      return launch_tile<T, 128, 128, 3, 2, false, false>(p, stream);
    case 3:
      return launch_tile<T, 128, 256, 4, 1, true, false>(p, stream);
    case 4:
      return launch_tile<T, 256, 128, 4, 1, true, false>(p, stream);
    case 5:
      return launch_tile<T, 256, 64, 4, 1, true, false>(p, stream);
    case 6:
      return launch_tile<T, 128, 128, 6, 1, true, false>(p, stream);
    case 7:
      return launch_tile<T, 128, 128, 3, 2, false, true>(p, stream);
    case 8:
      return launch_tile<T, 128, 64, 3, 2, false, true>(p, stream);
    case 9:
      return launch_tile<T, 256, 128, 4, 1, true, true>(p, stream);
    case 10:
      return launch_tile<T, 64, 64, 6, 2, true, true>(p, stream);
    case 11:
      return launch_tile<T, 128, 64, 3, sizeof(T) == 4 ? 2 : 3, false, true>(p, stream);
  }
  return 0;
}

template int launch_conv2d_wgmma(const ConvGemm<float>&, GemmTile, void*);
template int launch_conv2d_wgmma(const ConvGemm<Half>&, GemmTile, void*);
template int launch_conv2d_wgmma(const ConvGemm<BFloat16>&, GemmTile, void*);

}  // namespace convkit::cuda
