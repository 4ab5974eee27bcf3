// Running the tasks of a convolution, each with scratch memory of its thread.
#pragma once

#include <atomic>

#include "common/check.h"
#include "common/conv2d_shape.h"
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

}  // namespace convkit
