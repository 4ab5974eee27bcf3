// The door between ops and kernels: one table of functions per ISA. Tile sizes travel with the function that
// needs them.
#pragma once

#include <cstdint>

#include "cpu/kernels/conv2d_depthwise.h"
#include "cpu/kernels/conv2d_direct.h"
#include "cpu/kernels/conv2d_grouped.h"
#include "cpu/kernels/conv2d_kn2row.h"
#include "cpu/kernels/conv2d_winograd.h"
#include "cpu/kernels/limits.h"
#include "cpu/kernels/linear.h"
#include "cpu/kernels/max_pool2d.h"

namespace convkit {

struct ReluKernels {
  void (*forward)(const float* input, float* output, int64_t count);
  void (*backward)(const float* grad_output, const float* result, float* grad_input, int64_t count);
};

struct SumKernels {
  void (*channels_last)(const float* x, int64_t pixels, int64_t pixel, int64_t channels, float* sums);
  float (*contiguous)(const float* x, int64_t count);
};

struct KernelTable {
  const char* isa;
  int vector_floats;  // lanes of a register
  ReluKernels relu;
  SumKernels sum;
  Conv2dDirectKernels conv2d_direct;
  Conv2dWinogradKernels conv2d_winograd;
  Conv2dDepthwiseKernels conv2d_depthwise;
  Conv2dGroupedKernels conv2d_grouped;
  Conv2dKn2rowKernels conv2d_kn2row;
  LinearKernels linear;
  MaxPool2dKernels max_pool2d;
  LimitKernels limits;
};

namespace baseline {
extern const KernelTable kTable;
}
namespace avx2 {
extern const KernelTable kTable;
}
namespace avx512 {
extern const KernelTable kTable;
}
namespace avx512_bf16 {
extern const KernelTable kTable;
}

}  // namespace convkit
