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

// The taps have been checked.
struct MaxPool2dBackward {
  Pool2dShape shape;
  View4d<const float> grad_output;
  View4d<const uint8_t> taps;
  View4d<float> grad_input;
};

struct MaxPool2dKernels {
  // Output row oh of image n, all channels; channels_last.
  void (*channels_last_row)(const MaxPool2d& pool, int64_t n, int64_t oh);
  // Output rows [begin, end) of all planes together, plane by plane; contiguous. `scratch` has room for
  // max_pool2d_scratch_floats().
  void (*plane_rows)(const MaxPool2d& pool, int64_t begin, int64_t end, float* scratch);
  // Row h of the input's gradient, all channels; channels_last.
  void (*backward_channels_last_row)(const MaxPool2dBackward& pool, int64_t n, int64_t h);
  // one plane of the gradient of pooling 2x2 windows, 2 apart, all inside the image; contiguous.
  void (*backward_plane_2x2)(const MaxPool2dBackward& pool, int64_t n, int64_t c);
};

// Floats of a padded copy of one input row: all of the row, and all that the windows of whole vectors of outputs read.
inline int64_t max_pool2d_row_floats(const Pool2dShape& s, int64_t lanes) {
  const int64_t read = (round_up(s.ow, lanes) - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1 + 2 * lanes;
  return round_up(max(read, s.pad_w + s.iw), 16);
}
inline int64_t max_pool2d_scratch_floats(const Pool2dShape& s, int64_t lanes) {
  return s.kh * max_pool2d_row_floats(s, lanes) + round_up(s.ow, lanes);
}

}  // namespace convkit
