// backward_input with a stride: the input positions that one phase of the stride meets, as a convolution of their own.
#pragma once

#include <numeric>

#include "common/int_math.h"

namespace convkit {

// Along one dimension: input positions `position`, position + stride, ... and the taps that meet them.
struct Phase {
  int64_t first, step, taps;  // kernel positions first, first + step, ...
  int64_t dilation, pad;      // of the stride-1 convolution over grad_output, with the taps from the last to the first
  int64_t size;               // how many input positions have this phase

  int64_t last() const { return first + (taps - 1) * step; }
};

inline Phase make_phase(int64_t position, int64_t stride, int64_t pad, int64_t dilation, int64_t kernel,
                        int64_t input) {
  Phase p{0, stride / std::gcd(stride, dilation), 0, 0, 0, ceil_div(input - position, stride)};
  // position = phase + stride * i is met by tap k at output position (phase + pad - k * dilation) / stride + i.
  while (p.first < kernel && (position + pad - p.first * dilation) % stride) ++p.first;
  if (p.first >= kernel) return p;
  p.taps = ceil_div(kernel - p.first, p.step);
  p.dilation = p.step * dilation / stride;
  // Taps are walked from the last to the first, which makes it a correlation with ascending output positions.
  p.pad = -((position + pad - p.last() * dilation) / stride);
  return p;
}

}  // namespace convkit
