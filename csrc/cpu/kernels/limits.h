// Kernels that do nothing but reach a limit of the machine.
#pragma once

#include <cstdint>

namespace convkit {

struct LimitKernels {
  int operations_per_step;  // of multiply_add: multiplications and additions
  float (*multiply_add)(int64_t steps);
  float (*read)(const float* data, int64_t count);
};

}  // namespace convkit
