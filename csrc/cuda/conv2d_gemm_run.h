// Convolutions and their gradients as products of matrices, on tensors of one CUDA device, which is current.
#pragma once

#include <optional>

#include "common/conv2d_shape.h"
#include "common/tensor.h"
#include "cuda/conv2d_gemm.h"

namespace convkit::cuda {

struct GemmCall {
  const char* op;
  Conv2dShape shape;  // of the forward convolution
  GemmUnit unit;
  void* stream;
};

struct GemmEpilogue {
  std::optional<Tensor> bias;
  bool relu = false;
  bool pooled = false;                   // 2x2, which makes `output` a quarter of the convolution's
  bool output_is_channels_last = false;  // of a pooled output: decides the tap of a window of -infinity
  const Tensor* taps = nullptr;          // of a pooled output, in its format; or null
};

// Whether a convolution runs by Hopper's instructions, whose kernel does not pool.
bool uses_wgmma(GemmUnit unit, const Conv2dShape& shape, const Tensor& input);

void forward_gemm_into(const GemmCall& call, const Tensor& input, const Tensor& weight, const GemmEpilogue& epilogue,
                       const Tensor& output);
// linear: input [rows, channels], weight [filters, channels], output [rows, filters]; the shape is of
// forward_gemm_into, with rows as the pixels of one row.
void linear_gemm_into(const GemmCall& call, const Tensor& input, const Tensor& weight, const GemmEpilogue& epilogue,
                      const Tensor& output);
void backward_input_gemm_into(const GemmCall& call, const Tensor& grad_output, const Tensor& weight,
                              const Tensor& grad_input);
void backward_weight_gemm_into(const GemmCall& call, const Tensor& grad_output, const Tensor& input,
                               const Tensor& grad_weight);

}  // namespace convkit::cuda
