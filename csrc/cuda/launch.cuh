// The one place where kernels are launched.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace convkit::cuda {

struct Grid {
  dim3 blocks;
  unsigned threads;
  size_t shared_bytes = 0;  // what shared_memory() gives; see intrinsics.cuh
};

// Returns the cudaError_t of the launch; `stream` is a cudaStream_t.
template <typename... Parameters, typename... Arguments>
int launch(void (*kernel)(Parameters...), const Grid& grid, void* stream, Arguments... arguments) {
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (grid.shared_bytes > kWithoutAsking) {  // asked for each time: the answer is kept per device
    const auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
    const cudaError_t error = cudaFuncSetAttribute(kernel, attribute, static_cast<int>(grid.shared_bytes));
    if (error != cudaSuccess) return static_cast<int>(error);
  }
  kernel<<<grid.blocks, grid.threads, grid.shared_bytes, static_cast<cudaStream_t>(stream)>>>(arguments...);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace convkit::cuda
