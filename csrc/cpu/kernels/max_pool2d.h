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

// All dense and of one layout. The taps have been checked.
struct MaxPool2dBackward {
  Pool2dShape shape;
  const float* grad_output;
  const uint8_t* taps;
  float* grad_input;
};

struct MaxPool2dKernels {
  // Output row oh of image n, all channels; channels_last.
  void (*channels_last_row)(const MaxPool2d& pool, int64_t n, int64_t oh);
  // Output rows [begin, end) of all planes together, plane by plane; contiguous. `scratch` has room for
  // max_pool2d_scratch_floats().
  void (*plane_rows)(const MaxPool2d& pool, int64_t begin, int64_t end, float* scratch);
  // Row h of the input's gradient, all channels; channels_last.
  void (*backward_channels_last_row)(const MaxPool2dBackward& pool, int64_t n, int64_t h);
  // Planes [begin, end) of the input's gradient; contiguous, a window for which max_pool2d_gathers_planes() holds.
  // `scratch` has room for max_pool2d_backward_scratch_floats().
  void (*backward_planes)(const MaxPool2dBackward& pool, int64_t begin, int64_t end, float* scratch);
};

// Floats of a padded copy of one input row: all of the row, and all that the windows of whole vectors of outputs read.
inline int64_t max_pool2d_row_floats(const Pool2dShape& s, int64_t lanes) {
  const int64_t read = (round_up(s.ow, lanes) - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1 + 2 * lanes;
  return round_up(max(read, s.pad_w + s.iw), 16);
}
// Input rows that are copied at a time: those of eight output rows.
inline int64_t max_pool2d_band_rows(const Pool2dShape& s) {
  const int64_t output_rows = s.stride_h <= s.kh ? min(8, s.oh) : 1;
  return min((output_rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1, s.ih);
}
inline int64_t max_pool2d_scratch_floats(const Pool2dShape& s, int64_t lanes) {
  return max_pool2d_band_rows(s) * max_pool2d_row_floats(s, lanes) + round_up(s.ow, lanes);
}

// Whether backward_planes knows the window, and looks at few windows for each pixel.
inline bool max_pool2d_gathers_planes(const Pool2dShape& s) {
  return s.dilation_h == 1 && s.dilation_w == 1 && s.stride_w <= 3 &&
         ceil_div(s.kh, s.stride_h) * ceil_div(s.kw, s.stride_w) <= 16;
}
// Windows beside each other that a row of pixels asks about, and how far around a plane it may read.
inline int64_t max_pool2d_backward_row(const Pool2dShape& s, int64_t lanes) {
  return round_up(ceil_div(s.iw, s.stride_w), lanes);
}
inline int64_t max_pool2d_backward_margin(const Pool2dShape& s, int64_t lanes) {
  return round_up(max_pool2d_backward_row(s, lanes) + s.kw + 2 * lanes, 16);
}

inline bool windows_two_apart(const Pool2dShape& s) {
  return s.kh == 3 && s.kw == 3 && s.stride_h == 2 && s.stride_w == 2 && s.dilation_h == 1 && s.dilation_w == 1;
}
// Squares of 2x2 pixels, for 3x3 windows two apart: row 0 of them begins at pixel row `top` and meets the window rows
// `first_h` and the next. The same for columns. What is -1 lies outside.
struct MaxPool2dSquares {
  int64_t first_h, first_w, top, left;
  int64_t rows;   // of squares
  int64_t width;  // windows of a row, with those outside
  int64_t band;   // rows of squares that are computed at a time: few enough for L1
};
inline MaxPool2dSquares max_pool2d_squares(const Pool2dShape& s) {
  const int64_t first_h = s.pad_h - 1, first_w = s.pad_w - 1;
  const int64_t rows = ceil_div(s.ih - first_h, 2), width = ceil_div(s.iw - first_w, 2) + 1;
  return {first_h, first_w, first_h, first_w, rows, width, max(512 / width, 1)};
}

inline int64_t max_pool2d_backward_scratch_floats(const Pool2dShape& s, int64_t lanes) {
  const int64_t plane = s.oh * s.ow + 2 * max_pool2d_backward_margin(s, lanes);
  if (!windows_two_apart(s)) return s.kw * max_pool2d_backward_row(s, lanes) + plane + ceil_div(plane, 4);
  const MaxPool2dSquares b = max_pool2d_squares(s);
  return 6 * (round_up(b.band * b.width, lanes) + b.width + lanes);
}

}  // namespace convkit
