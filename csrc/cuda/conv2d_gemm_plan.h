// From the geometry of a convolution to the products of conv2d_gemm.h, and how to cut them. No torch.
#pragma once

#include <string>

#include "cuda/conv2d_gemm.h"

namespace convkit::cuda {

// Why a direction of a convolution cannot be such a product; empty if it can.
std::string refuse_forward_gemm(const Conv2dShape& shape);
std::string refuse_backward_input_gemm(const Conv2dShape& shape);
std::string refuse_backward_weight_gemm(const Conv2dShape& shape);

// Channels of a group, of so many, that loads of an image take at once: 16 bytes, or 1.
template <typename T>
int32_t load_vector(const View4d<const T>& image, int64_t channels);

template <typename T>
ConvGemm<T> forward_gemm(const Conv2dShape& shape, const View4d<const T>& input, const View4d<const T>& weight,
                         const View4d<T>& output);

// The phases of backward_input, from number `first` on, as many as fit one launch.
int64_t phase_total(const Conv2dShape& shape);
template <typename T>
ConvGemm<T> backward_input_gemm(const Conv2dShape& shape, const View4d<const T>& grad_output,
                                const View4d<const T>& weight, const View4d<T>& grad_input, int64_t first);

template <typename T>
ConvGemm<T, float> backward_weight_gemm(const Conv2dShape& shape, const View4d<const T>& input,
                                        const View4d<const T>& grad_output, const View4d<float>& grad_weight);

// Numbers the rows for Hopper's tensor cores, where that saves loads. The results are the same bits.
template <typename T>
void shift_rows(ConvGemm<T>& problem);

// How the work is cut. The results are the same bits for every tile and every split of forward and backward_input.
struct GemmCut {
  GemmTile tile;
  int32_t splits;
};
template <typename T, typename Out>
GemmCut cut_gemm(const ConvGemm<T, Out>& problem, GemmUnit unit, int64_t output_elements, int multiprocessors);
template <typename T>
GemmCut cut_backward_weight_gemm(const ConvGemm<T, float>& problem, GemmUnit unit, int64_t output_elements);

// 16 bytes of results at once, where memory allows it; to be set when the output is known.
template <typename T, typename Out>
StoreOrder store_order(const ConvGemm<T, Out>& problem);
template <typename T>
StoreOrder backward_weight_store_order(const ConvGemm<T, float>& problem);

// Sizes of what prepare fills, in entries and in elements.
template <typename T, typename Out>
int64_t table_entries(const ConvGemm<T, Out>& problem);
template <typename T, typename Out>
int64_t packed_elements(const ConvGemm<T, Out>& problem);

}  // namespace convkit::cuda
