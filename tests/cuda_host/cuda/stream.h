// In place of csrc/cuda/stream.h: an op on CPU tensors, which makes their memory known to the checks and knows no
// streams. Registered in a namespace of its own.
#pragma once

#include <initializer_list>

#include "common/tensor.h"
#include "memory.h"
#include "simt.h"

#define CONVKIT_CUDA_OPS(m) STABLE_TORCH_LIBRARY_IMPL(convkit_cuda_host, CPU, m)

namespace convkit::cuda {

// Every op begins with this: nothing that an earlier one used may be touched any more.
inline void check_devices(const char*, std::initializer_list<const Tensor*>) { simt::forget_global_memory(); }

class StreamGuard {
 public:
  explicit StreamGuard(const Tensor&) {}
  void* stream() const { return nullptr; }
};

inline void check_launch(const char* op, int error) { CONVKIT_CHECK(error == 0, op, ": ", simt::error()); }

}  // namespace convkit::cuda
