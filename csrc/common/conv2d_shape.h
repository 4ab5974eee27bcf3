// The geometry of a 2-D convolution, validated by whoever makes one. No torch here: kernels use it too.
#pragma once

#include <cstdint>

namespace convkit {

struct Conv2dShape {
  int64_t n, ic, ih, iw;  // input  [n, ic, ih, iw]
  int64_t oc, oh, ow;     // output [n, oc, oh, ow]
  int64_t kh, kw;         // weight [oc, ic / groups, kh, kw]
  int64_t stride_h, stride_w;
  int64_t pad_top, pad_left;  // may be negative inside backward_input: then the input is cropped
  int64_t dilation_h, dilation_w;
  int64_t groups;

  constexpr int64_t group_ic() const { return ic / groups; }
  constexpr int64_t group_oc() const { return oc / groups; }
};

// A 4-D tensor by pointer and strides, in elements. A weight [oc, ic, kh, kw] is one too: n is its output channel.
template <typename T>
struct View4d {
  T* data;
  int64_t n, c, h, w;
};

}  // namespace convkit
