// The one place where kernels are launched.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace convkit::cuda {

// Returns the cudaError_t of the launch; `stream` is a cudaStream_t.
template <typename... Parameters, typename... Arguments>
int launch(void (*kernel)(Parameters...), dim3 blocks, int threads, void* stream, Arguments... arguments) {
  kernel<<<blocks, threads, 0, static_cast<cudaStream_t>(stream)>>>(arguments...);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace convkit::cuda
