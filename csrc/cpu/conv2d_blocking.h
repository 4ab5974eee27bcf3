// How a direct convolution is cut into tasks: of the shape and the tile size alone, never of the number of threads.
#pragma once

#include "cpu/kernels/conv2d_direct.h"

namespace convkit {

// `pool`: what pools the sums, or null; then they are not in place.
Conv2dBlocking conv2d_blocking(const Conv2dShape& shape, const Conv2dDirectKernels& kernels, Conv2dSums sums,
                               const Pool2dShape* pool = nullptr);

// Where the sums of a convolution with this output, which may be a pooled one, belong.
Conv2dSums conv2d_sums(const Conv2dShape& shape, const View4d<float>& output, bool pooled);

// Whether a task can pool its own rows: its bands hold whole windows.
bool can_pool_bands(const Conv2dBlocking& blocking, const Pool2dShape& pool);

Conv2dBackwardWeightBlocking conv2d_backward_weight_blocking(const Conv2dShape& shape,
                                                             const Conv2dDirectKernels& kernels);

}  // namespace convkit
