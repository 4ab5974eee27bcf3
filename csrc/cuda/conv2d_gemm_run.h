// Convolutions and their gradients as products of matrices, on tensors of one CUDA device, which is current.
#pragma once

#include <optional>

#include "common/conv2d_shape.h"
#include "common/tensor.h"

namespace convkit::cuda {

// Where and in which precision the products are computed.
enum class GemmUnit {
  kFfma,     // float32 multiply-adds
  kTf32,     // tensor cores; float32 operands lose 13 bits
  k3xTf32,   // tensor cores; float32 operands in two parts, three products
  kTensor16  // tensor cores; bfloat16 and float16
};

struct GemmCall {
  const char* op;
  Conv2dShape shape;  // of the forward convolution
  GemmUnit unit;
  void* stream;
};

void forward_gemm_into(const GemmCall& call, const Tensor& input, const Tensor& weight,
                       const std::optional<Tensor>& bias, bool relu, const Tensor& output);
void backward_input_gemm_into(const GemmCall& call, const Tensor& grad_output, const Tensor& weight,
                              const Tensor& grad_input);
void backward_weight_gemm_into(const GemmCall& call, const Tensor& grad_output, const Tensor& input,
                               const Tensor& grad_weight);

}  // namespace convkit::cuda
