// Max-pooling of float32 between op and kernel.
#pragma once

#include "common/conv2d_shape.h"
#include "common/pool2d_shape.h"

namespace convkit {

// Either layout: input and output both have unit stride along c (channels_last), or both along w (contiguous).
struct MaxPool2d {
  Pool2dShape shape;
  View4d<const float> input;
  View4d<float> output;
  uint8_t* taps;  // with the output's strides, or null
};

struct MaxPool2dKernels {
  // Output row oh of image n, all channels; channels_last.
  void (*channels_last_row)(const MaxPool2d& pool, int64_t n, int64_t oh);
  // Output rows [begin, end) of one plane; contiguous. `scratch` has room for max_pool2d_scratch_floats().
  void (*plane_rows)(const MaxPool2d& pool, int64_t n, int64_t c, int64_t begin, int64_t end, float* scratch);
};

// Floats of a padded copy of one input row, with a vector to spare at its end.
inline int64_t max_pool2d_row_floats(const Pool2dShape& s, int64_t lanes) {
  const int64_t outputs = round_up(s.ow, lanes);
  return round_up((outputs - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1 + 2 * lanes, 16);
}
inline int64_t max_pool2d_scratch_floats(const Pool2dShape& s, int64_t lanes) {
  return s.kh * max_pool2d_row_floats(s, lanes) + round_up(s.ow, lanes);
}

}  // namespace convkit
