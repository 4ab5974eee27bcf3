// Ops without a CUDA kernel say so, by name, when they meet a CUDA tensor: all of them in a build without CUDA, those
// that have none in a build with it. Every op of csrc/library.cpp stands in one of the two lists.
#include <torch/csrc/stable/library.h>

#include "common/check.h"

// Packed weights are the CPU's: a CUDA call packs in its stream.
#define CONVKIT_OPS_WITHOUT_CUDA_KERNEL(OP) OP(conv2d_packed)

#define CONVKIT_OPS_WITH_CUDA_KERNEL(OP) \
  OP(relu)                               \
  OP(relu_)                              \
  OP(relu_backward)                      \
  OP(conv2d)                             \
  OP(conv2d_backward_input)              \
  OP(conv2d_backward_weight)             \
  OP(conv2d_backward_bias)               \
  OP(conv2d_max_pool2d)                  \
  OP(max_pool2d)                         \
  OP(max_pool2d_with_taps)               \
  OP(max_pool2d_indices)                 \
  OP(max_pool2d_backward)                \
  OP(max_pool2d_gather)                  \
  OP(linear)

namespace {

[[noreturn]] void refuse(const char* op) {
#if CONVKIT_CUDA
  throw std::runtime_error(convkit::concat("convkit.", op, " has no CUDA kernel; move the tensors to the CPU"));
#else
  throw std::runtime_error(convkit::concat("convkit.", op,
                                           ": convkit was built without its CUDA kernels (" CONVKIT_CUDA_REASON
                                           "); install it again with CONVKIT_CUDA=1 set where nvcc is installed"));
#endif
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(convkit, CUDA, m) {
#define CONVKIT_REFUSE(op) m.impl(#op, [](StableIValue*, uint64_t, uint64_t) { refuse(#op); });
  CONVKIT_OPS_WITHOUT_CUDA_KERNEL(CONVKIT_REFUSE)
#if !CONVKIT_CUDA
  CONVKIT_OPS_WITH_CUDA_KERNEL(CONVKIT_REFUSE)
#endif
}
