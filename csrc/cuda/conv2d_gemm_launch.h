// Launchers of the products of conv2d_gemm.h; `stream` is a cudaStream_t, the result a cudaError_t.
#pragma once

#include "cuda/conv2d_gemm.h"

namespace convkit::cuda {

// How weights are packed: [depth][columns], [columns][depth], or as wgmma takes them from shared memory: of 64 columns
// together 128 bytes of products each, [columns / 64][depth][64][128 bytes], vectors permuted as WgmmaOperand has them;
// there float32 is rounded to TF32.
enum class Packing { kColumnsInner, kDepthInner, kWgmma };

// Fills the table of taps and, unless `packed` is null, the packed weights.
template <typename T, typename Out>
int launch_conv2d_prepare(const ConvGemm<T, Out>& problem, GemmTap* table, T* packed, Packing packing, void* stream);

// output[i] = relu(sums[i] + sums[count + i] + ... + bias), in that order.
template <typename T>
struct SplitSum {
  const float* sums;
  T* output;
  const T* bias;
  bool relu;
  int32_t splits;
  int64_t count, channel_stride, channels;
};
template <typename T>
int launch_conv2d_sum_splits(const SplitSum<T>& problem, void* stream);

// float32 multiply-adds outside of the tensor cores.
int launch_conv2d_ffma(const ConvGemm<float>& problem, GemmTile tile, void* stream);
int launch_conv2d_ffma_backward_weight(const ConvGemm<float>& problem, GemmTile tile, void* stream);

// On tensor cores, sm_80+ (float16 on sm_75 too). Weights are packed [columns][depth]. float32 is rounded to TF32, or
// multiplied in three terms.
template <typename T>
int launch_conv2d_mma(const ConvGemm<T>& problem, bool three_terms, GemmTile tile, void* stream);
template <typename T>
int launch_conv2d_mma_backward_weight(const ConvGemm<T, float>& problem, bool three_terms, GemmTile tile, void* stream);

// By Hopper's own instructions, sm_90a, for inputs that are read by vectors. float32 is rounded to TF32.
template <typename T>
int launch_conv2d_wgmma(const ConvGemm<T>& problem, GemmTile tile, void* stream);

}  // namespace convkit::cuda
