#include <cuda_runtime.h>

#include "cuda/device.h"

namespace convkit::cuda {
namespace {

int attribute(cudaDeviceAttr name) {
  int device = 0, value = 0;
  const bool known =
      cudaGetDevice(&device) == cudaSuccess && cudaDeviceGetAttribute(&value, name, device) == cudaSuccess;
  return known ? value : 0;
}

}  // namespace

int multiprocessors() { return attribute(cudaDevAttrMultiProcessorCount); }

int compute_capability() {
  return 10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
}

}  // namespace convkit::cuda
