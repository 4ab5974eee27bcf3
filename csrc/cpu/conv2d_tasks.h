// Running the tasks of a convolution, each with scratch memory of its thread.
#pragma once

#include <atomic>
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

// A thread that gets no scratch skips its tasks; the error is raised when all threads are back.
template <typename Conv>
void run_tasks(const Conv& conv, void (*kernel)(const Conv&, int64_t, float*)) {
  std::atomic<bool> out_of_memory{false};
  parallel_tasks(conv.tasks(), products(conv.shape), [&](int64_t task) {
    float* scratch = static_cast<float*>(workspace(conv.blocking.scratch_bytes()));
    if (scratch)
      kernel(conv, task, scratch);
    else
      out_of_memory = true;
  });
  CONVKIT_CHECK(!out_of_memory, "conv2d: no memory for ", conv.blocking.scratch_bytes(), " bytes of workspace");
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
    const int64_t end = min((block + 1) * kBlock, numel);
    for (int64_t i = block * kBlock; i < end; ++i) {
      float total = sums[i];
      for (int64_t split = 1; split < splits; ++split) total += sums[split * numel + i];
      result[i] = total;
    }
  });
}

}  // namespace convkit
