// What every op on a CUDA tensor does around its launches.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include <initializer_list>

#include "common/tensor.h"

// Where CUDA's implementations of ops are registered.
#define CONVKIT_CUDA_OPS(m) STABLE_TORCH_LIBRARY_IMPL(convkit, CUDA, m)

namespace convkit::cuda {

// Throws unless all tensors are on one CUDA device. The dispatcher comes here as soon as one of them is, and redispatch
// with any tensor.
void check_devices(const char* op, std::initializer_list<const Tensor*> tensors);

// Makes the tensor's device the current one for its life, and knows torch's current stream there.
class StreamGuard {
 public:
  explicit StreamGuard(const Tensor& tensor);
  void* stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard device_;
  void* stream_;
};

// Throws the text of a launcher's result unless that is success.
void check_launch(const char* op, int error);

}  // namespace convkit::cuda
