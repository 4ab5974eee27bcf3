#include <cuda_runtime.h>

#include "cuda/device.h"

namespace convkit::cuda {
namespace {

// Compiled as all kernels are.
__global__ void any_kernel() {}

}  // namespace

int multiprocessors() {
  int device = 0, count = 0;
  const bool known = cudaGetDevice(&device) == cudaSuccess &&
                     cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) == cudaSuccess;
  return known ? count : 0;
}

int code_capability() {
  cudaFuncAttributes attributes{};
  if (cudaFuncGetAttributes(&attributes, any_kernel) == cudaSuccess) return attributes.ptxVersion;
  cudaGetLastError();  // a launch will tell it better
  return 0;
}

}  // namespace convkit::cuda
