// Arguments of a pooling, checked once for every backend and direction.
#pragma once

#include <vector>

#include "common/pool2d_shape.h"
#include "common/tensor.h"

namespace convkit {

// As the ops take them: (height, width) each.
struct Pool2dArguments {
  const std::vector<int64_t>& kernel_size;
  const std::vector<int64_t>& stride;
  const std::vector<int64_t>& padding;
  const std::vector<int64_t>& dilation;
  bool ceil_mode = false;
};

// The geometry of pooling a [n, c, h, w] input; a RuntimeError in torch's words if there is none.
Pool2dShape make_pool2d_shape(const char* op, IntHeaderOnlyArrayRef input, const Pool2dArguments& arguments);

// The dtype that holds the taps of such windows; a RuntimeError if none does.
ScalarType tap_dtype(const char* op, const Pool2dShape& shape);

// The same from the taps of that pooling, whose size tells whether ceil_mode was on; their dtype is checked too.
Pool2dShape make_pool2d_shape(const char* op, IntHeaderOnlyArrayRef input, const Pool2dArguments& arguments,
                              const Tensor& taps);

}  // namespace convkit
