#include <cuda_runtime.h>

#include "cuda/device.h"

namespace convkit::cuda {
namespace {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr int kThreads = 128;  // which tells it
#else
constexpr int kThreads = 256;
#endif

// Compiled as all kernels are.
__global__ void __launch_bounds__(kThreads) any_kernel() {}

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

bool has_wgmma() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, any_kernel) == cudaSuccess && attributes.maxThreadsPerBlock == 128;
}

}  // namespace convkit::cuda
