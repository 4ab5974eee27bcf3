#include <cuda_runtime.h>

#include "cuda/device.h"

namespace convkit::cuda {
namespace {

constexpr int kHopperThreads = 128;  // which tells it
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr int kThreads = kHopperThreads;
#else
constexpr int kThreads = 256;
#endif

// Compiled as all kernels are.
__global__ void __launch_bounds__(kThreads) any_kernel() {}

// Zeros where the device has no code.
cudaFuncAttributes code() {
  cudaFuncAttributes attributes{};
  if (cudaFuncGetAttributes(&attributes, any_kernel) == cudaSuccess) return attributes;
  cudaGetLastError();  // a launch will tell it better
  return {};
}

}  // namespace

int multiprocessors() {
  int device = 0, count = 0;
  const bool known = cudaGetDevice(&device) == cudaSuccess &&
                     cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) == cudaSuccess;
  return known ? count : 0;
}

int code_capability() { return code().ptxVersion; }
bool has_wgmma() { return code().maxThreadsPerBlock == kHopperThreads; }

}  // namespace convkit::cuda
