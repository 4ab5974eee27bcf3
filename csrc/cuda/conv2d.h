// conv2d on CUDA as a function, for the op and for the fused block.
#pragma once

#include <optional>
#include <type_traits>

#include "common/conv2d_check.h"
#include "common/tensor_view.h"
#include "cuda/conv2d_generic.h"
#include "cuda/conv2d_select.h"
#include "cuda/stream.h"

namespace convkit::cuda {

struct Conv2dCall {
  const char* op;
  Conv2dShape shape;
  Conv2dAlgorithm algorithm;
  bool channels_last;  // the output's format
  bool relu;
};

// Checks everything and chooses the algorithm; touches nothing.
Conv2dCall prepare_conv2d(const char* op, const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                          const Conv2dArguments& arguments, const std::string& activation,
                          const std::string& algorithm);

Tensor run_conv2d(const Conv2dCall& call, const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias);

// Calls f(T{}) with the C++ type of a dtype that is summed in float32.
template <typename F>
void dispatch_narrow(const char* op, ScalarType dtype, const F& f) {
  dispatch_floating(op, dtype, [&](auto zero) {
    if constexpr (!std::is_same_v<decltype(zero), double>) f(zero);
  });
}

template <typename T>
Conv2dGeneric<T> generic_conv2d(const Conv2dCall& call, const Tensor& input, const Tensor& weight,
                                const std::optional<Tensor>& bias) {
  return {call.shape,
          const_view<T>(input),
          const_view<T>(weight),
          bias ? const_data<T>(*bias) : nullptr,
          bias ? bias->stride(0) : 0,
          call.relu};
}

}  // namespace convkit::cuda
