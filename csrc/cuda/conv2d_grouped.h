// Launchers of csrc/cuda/conv2d_grouped.cu: sums of few channels, which would leave tiles of products nearly empty.
// They take what conv2d_gemm_plan.h makes, but for tables and packed weights. `stream` is a cudaStream_t, the result a
// cudaError_t.
#pragma once

#include "cuda/conv2d_gemm.h"

namespace convkit::cuda {

template <typename T>
int launch_conv2d_grouped(const ConvGemm<T>& problem, void* stream);

// Parts of the sum over pixels, as `splits` and `chunk`: by shape and memory format alone, so that the same call gives
// the same bits on every GPU.
template <typename T>
void cut_conv2d_grouped_backward_weight(ConvGemm<T, float>& problem, int64_t output_elements);
template <typename T>
int launch_conv2d_grouped_backward_weight(const ConvGemm<T, float>& problem, void* stream);

}  // namespace convkit::cuda
