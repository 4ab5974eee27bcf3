#include <cuda_runtime.h>

#include "cuda/error.h"

namespace convkit::cuda {

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace convkit::cuda
