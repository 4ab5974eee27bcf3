// Launchers of csrc/cuda/relu.cu. T is any type of dispatch_real; `stream` is a cudaStream_t, the result a cudaError_t.
#pragma once

#include <cstdint>

namespace convkit::cuda {

// input and output may be the same memory.
template <typename T>
int launch_relu(const T* input, T* output, int64_t count, void* stream);

template <typename T>
int launch_relu_backward(const T* grad_output, const T* result, T* grad_input, int64_t count, void* stream);

}  // namespace convkit::cuda
