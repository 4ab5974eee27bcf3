// In place of csrc/cuda/launch.cuh: a launch runs the kernel at once, on the CPU.
#pragma once

#include <cuda_runtime.h>

#include "memory.h"

namespace convkit::cuda {

struct Grid {
  dim3 blocks;
  unsigned threads;
  size_t shared_bytes = 0;
};

template <typename... Parameters, typename... Arguments>
int launch(void (*kernel)(Parameters...), const Grid& grid, void*, Arguments... arguments) {
  const auto call = [=] { kernel(arguments...); };
  const auto thread = [](const void* parameters) { (*static_cast<const decltype(call)*>(parameters))(); };
  return simt::run(grid.blocks, grid.threads, grid.shared_bytes, {thread, &call, sizeof call});
}

}  // namespace convkit::cuda
