// How a direct convolution is cut into tasks: of the shape and the tile size alone, never of the number of threads.
#pragma once

#include "cpu/kernels/conv2d_direct.h"

namespace convkit {

struct Conv2dBlockingOptions {
  Conv2dSums sums = Conv2dSums::kScratch;
  const Pool2dShape* pool = nullptr;  // what pools the sums, which are then not in place
  bool bfloat16 = false;              // two numbers a lane
};

template <typename T>
constexpr bool is_bfloat16 = std::is_same_v<T, BFloat16>;

Conv2dBlocking conv2d_blocking(const Conv2dShape& shape, const Conv2dDirectKernels& kernels,
                               const Conv2dBlockingOptions& options);

// Where the sums of a convolution with this output, which may be a pooled one, belong.
template <typename T>
Conv2dSums conv2d_sums(const Conv2dShape& shape, const View4d<T>& output, bool pooled);

// Whether a task can pool its own rows: its bands hold whole windows.
bool can_pool_bands(const Conv2dBlocking& blocking, const Pool2dShape& pool);

Conv2dBackwardWeightBlocking conv2d_backward_weight_blocking(const Conv2dShape& shape,
                                                             const Conv2dDirectKernels& kernels);

}  // namespace convkit
