// Running the tasks of a convolution, each with scratch memory of its thread.
#pragma once

#include <atomic>
#include <cstring>
#include <memory>
#include <utility>

#include "common/check.h"
#include "common/conv2d_shape.h"
#include "common/int_math.h"
#include "cpu/parallel.h"
#include "cpu/workspace.h"

namespace convkit {

inline double products(const Conv2dShape& s) {
  return static_cast<double>(s.n) * s.oc * s.oh * s.ow * s.group_ic() * s.kh * s.kw;
}

// body(task, scratch). A thread that gets no scratch skips its tasks; the error is raised when all threads are back.
template <typename Body>
void tasks_with_scratch(int64_t tasks, double work, int64_t scratch_bytes, Body body) {
  std::atomic<bool> out_of_memory{false};
  parallel_tasks(tasks, work, [&](int64_t task) {
    if (float* scratch = static_cast<float*>(workspace(scratch_bytes)))
      body(task, scratch);
    else
      out_of_memory = true;
  });
  CONVKIT_CHECK(!out_of_memory, "conv2d: no memory for ", scratch_bytes, " bytes of workspace");
}

template <typename Conv>
void run_tasks(const Conv& conv, void (*kernel)(const Conv&, int64_t, float*)) {
  constexpr double kProduct = 1.0 / 8;  // a product in registers, in elements of a loop over memory
  tasks_with_scratch(conv.tasks(), products(conv.shape) * kProduct, conv.blocking.scratch_bytes(),
                     [&](int64_t task, float* scratch) { kernel(conv, task, scratch); });
}

template <typename Conv>
void pack_blocks(const Conv& conv, void (*kernel)(const Conv&, int64_t, float*, float*), float* packed) {
  const double floats = static_cast<double>(conv.weight_blocks()) * conv.block_floats();
  tasks_with_scratch(conv.weight_blocks(), floats, conv.blocking.scratch_bytes(),
                     [&](int64_t block, float* scratch) { kernel(conv, block, packed, scratch); });
}

// The same for a gradient of the weight whose reduction is dealt to `splits` tasks: their sums are added in order.
template <typename Conv>
void run_split_tasks(Conv conv, void (*kernel)(const Conv&, int64_t, float*)) {
  const int64_t splits = conv.blocking.splits, numel = conv.split_stride;
  if (splits == 1) return run_tasks(conv, kernel);
  const auto sums = std::make_unique_for_overwrite<float[]>(splits * numel);
  float* const result = std::exchange(conv.grad_weight.data, sums.get());
  run_tasks(conv, kernel);
  constexpr int64_t kBlock = 4096;
  parallel_tasks(ceil_div(numel, kBlock), static_cast<double>(splits) * numel, [&](int64_t block) {
    const int64_t begin = block * kBlock, count = min(kBlock, numel - begin);
    float* const total = result + begin;
    std::memcpy(total, sums.get() + begin, count * sizeof(float));
    for (int64_t split = 1; split < splits; ++split) {
      const float* part = sums.get() + split * numel + begin;
      for (int64_t i = 0; i < count; ++i) total[i] += part[i];  // vectors run along a part, not across all
    }
  });
}

}  // namespace convkit
