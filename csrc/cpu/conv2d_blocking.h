// How a direct convolution is cut into tasks: of the shape and the tile size alone, never of the number of threads.
#pragma once

#include "cpu/kernels/conv2d_direct.h"

namespace convkit {

// `in_place`: the sums go straight into the output. `pool`: what pools them, or null.
Conv2dBlocking conv2d_blocking(const Conv2dShape& shape, const Conv2dDirectKernels& kernels, bool in_place,
                               const Pool2dShape* pool = nullptr);

// Whether a task can pool its own rows: its bands hold whole windows.
bool can_pool_bands(const Conv2dBlocking& blocking, const Pool2dShape& pool);

Conv2dBackwardWeightBlocking conv2d_backward_weight_blocking(const Conv2dShape& shape,
                                                             const Conv2dDirectKernels& kernels);

}  // namespace convkit
