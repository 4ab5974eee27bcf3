// The geometry of a 2-D pooling, validated by whoever makes one. No torch here: kernels use it too.
#pragma once

#include <cstdint>

#include "common/int_math.h"

namespace convkit {

struct Pool2dShape {
  int64_t n, c, ih, iw;  // input  [n, c, ih, iw]
  int64_t oh, ow;        // output [n, c, oh, ow]
  int64_t kh, kw;
  int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;

  int64_t area() const {  // positions of a window; the largest int64 where there are more
    int64_t positions;
    return __builtin_mul_overflow(kh, kw, &positions) ? INT64_MAX : positions;
  }
};

// A tap is the position kh * KW + kw in its window, padding counted. Bytes hold it while the window has at most 255.
constexpr int64_t kLargestByteArea = 255;
// A byte tap of a window without gradient: the pooled value of a fused ReLU was not positive. The area is at most 254.
constexpr uint8_t kDeadTap = 255;

// Of one window along one dimension: the kernel positions [begin, end) that fall inside the input. With dilation there
// may be none: such a window's maximum is -inf, and it passes no gradient.
struct WindowRange {
  int64_t begin, end;

  constexpr bool empty() const { return begin == end; }

  constexpr WindowRange(int64_t out, int64_t stride, int64_t pad, int64_t dilation, int64_t kernel, int64_t size)
      : begin(0), end(kernel) {
    const int64_t start = out * stride - pad;
    // Most windows, without a division; the span alone may be nearly 2^63.
    if (start >= 0 && start < size && (kernel - 1) * dilation < size - start) return;
    begin = start < 0 ? min(ceil_div(-start, dilation), kernel) : 0;
    end = start >= size ? begin : clamp((size - 1 - start) / dilation + 1, begin, kernel);
  }
};

constexpr WindowRange window_h(const Pool2dShape& s, int64_t oh) {
  return {oh, s.stride_h, s.pad_h, s.dilation_h, s.kh, s.ih};
}
constexpr WindowRange window_w(const Pool2dShape& s, int64_t ow) {
  return {ow, s.stride_w, s.pad_w, s.dilation_w, s.kw, s.iw};
}

}  // namespace convkit
