// How a direct convolution is cut into tasks: of the shape and the tile size alone, never of the number of threads.
#pragma once

#include "cpu/kernels/conv2d_direct.h"

namespace convkit {

// `in_place`: the sums go straight into the output. `row_multiple`: bands have a multiple of so many output rows.
Conv2dBlocking conv2d_blocking(const Conv2dShape& shape, const Conv2dDirectKernels& kernels, bool in_place,
                               int64_t row_multiple = 1);

Conv2dBackwardWeightBlocking conv2d_backward_weight_blocking(const Conv2dShape& shape,
                                                             const Conv2dDirectKernels& kernels);

}  // namespace convkit
