// Windows of one pixel, or one column or row, seen as smaller problems.
#pragma once

#include "common/conv2d_shape.h"
#include "common/int_math.h"

namespace convkit {

// A 1-wide window reads every stride-th pixel only: drops the others from the view.
template <typename T>
void drop_skipped_pixels(Conv2dShape& s, View4d<const T>& input) {
  if (s.kh == 1 && s.pad_top == 0) {
    input.h *= s.stride_h;
    s.ih = ceil_div(s.ih, s.stride_h), s.stride_h = 1;
  }
  if (s.kw == 1 && s.pad_left == 0) {
    input.w *= s.stride_w;
    s.iw = ceil_div(s.iw, s.stride_w), s.stride_w = 1;
  }
}

// The pixels of a 1x1 convolution know no rows: an image is one row of them, which register tiles cut into equal parts.
template <typename T, typename Output>
void join_rows(Conv2dShape& s, const View4d<const T>& input, const View4d<Output>& output) {
  const bool pointwise = s.kh == 1 && s.kw == 1 && s.stride_h == 1 && s.stride_w == 1 && s.pad_top == 0 &&
                         s.pad_left == 0 && s.ih == s.oh && s.iw == s.ow;
  if (pointwise && input.h == s.iw * input.w && output.h == s.ow * output.w) s.iw = s.ow = s.oh * s.ow, s.ih = s.oh = 1;
}

}  // namespace convkit
