// conv2d on the CPU as a function, for the op and for the fused block.
#pragma once

#include <optional>
#include <tuple>
#include <vector>

#include "common/conv2d_check.h"
#include "cpu/conv2d_select.h"
#include "cpu/kernels/conv2d_direct.h"

namespace convkit {

struct Conv2dCall {
  Conv2dShape shape;
  Conv2dAlgorithm algorithm;
  bool channels_last;  // the output's format
  Activation activation;
  const float* packed_weight = nullptr;  // what conv2d_pack_weight made for this algorithm
};

// Checks everything and chooses the algorithm; touches nothing.
Conv2dCall prepare_conv2d(const char* op, const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                          const Conv2dArguments& arguments, const std::string& activation,
                          const std::string& algorithm);

// Whether the algorithm reads and writes tensors of this dtype as they are; otherwise 16-bit ones are widened.
bool takes_dtype(Conv2dAlgorithm algorithm, const Conv2dProblem& problem);

// T float or BFloat16, which the algorithm must take. With `pool`, which must be possible (see can_pool), there is no
// `output`.
template <typename T>
void run_conv2d_of(const Conv2dCall& call, const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                   const View4d<T>& output, const Conv2dPool<T>* pool);

Tensor run_conv2d(const Conv2dCall& call, const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias);

// (output, taps); checks the pooling.
std::tuple<Tensor, Tensor> run_conv2d_max_pool2d(const Conv2dCall& call, const Tensor& input, const Tensor& weight,
                                                 const std::optional<Tensor>& bias,
                                                 const std::vector<int64_t>& pool_kernel_size,
                                                 const std::vector<int64_t>& pool_stride,
                                                 const std::vector<int64_t>& pool_padding, bool return_taps);

}  // namespace convkit
