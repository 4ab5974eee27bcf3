// In place of the CUDA part where it is not built: every op of a CUDA tensor says so, and how to get it.
#include <torch/csrc/stable/library.h>

#include "common/check.h"

namespace {

void absent(StableIValue*, uint64_t, uint64_t) {
  throw std::runtime_error("convkit was built without its CUDA kernels (" CONVKIT_CUDA_REASON
                           "); install it again with CONVKIT_CUDA=1 set where nvcc is installed");
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(convkit, CUDA, m) {
  for (const char* op : {"relu", "relu_", "relu_backward", "conv2d", "conv2d_backward_input", "conv2d_backward_weight",
                         "conv2d_backward_bias", "conv2d_max_pool2d", "max_pool2d", "max_pool2d_with_taps",
                         "max_pool2d_indices", "max_pool2d_backward", "max_pool2d_gather", "linear"})
    m.impl(op, &absent);
}
