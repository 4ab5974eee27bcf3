// Gradient of max-pooling, float32: every element of grad_input is written once, as the sum of the gradients of the
// windows that it won, in row-major order of the windows. No zero fill, no scatter, no order that depends on threads.
#pragma once

#include "cpu/kernels/max_pool2d.h"
#include "cpu/kernels/max_pool2d.inl"

namespace convkit {
namespace {

// The outputs [first, last] along one dimension whose windows span this input position.
struct WindowsOver {
  int64_t first, last;

  WindowsOver(int64_t position, int64_t stride, int64_t pad, int64_t span, int64_t size) {
    const int64_t reach = position + pad - span;  // of the kernel's far end
    first = reach > 0 ? ceil_div(reach, stride) : 0;
    last = min(size - 1, (position + pad) / stride);
  }
};

void max_pool2d_backward_channels_last_row(const MaxPool2dBackward& pool, int64_t n, int64_t h) {
  const Pool2dShape& s = pool.shape;
  const WindowsOver rows(h, s.stride_h, s.pad_h, (s.kh - 1) * s.dilation_h, s.oh);
  const float* g = pool.grad_output.data + n * pool.grad_output.n;
  const uint8_t* taps = pool.taps.data + n * pool.taps.n;
  for (int64_t w = 0; w < s.iw; ++w) {
    const WindowsOver columns(w, s.stride_w, s.pad_w, (s.kw - 1) * s.dilation_w, s.ow);
    float* out = pool.grad_input.data + n * pool.grad_input.n + h * pool.grad_input.h + w * pool.grad_input.w;
    for (int64_t c = 0; c < s.c; c += kTapBlock) {
      const int64_t count = min(kTapBlock, s.c - c);
      float sum[kTapBlock] = {};
      int32_t tap[kTapBlock];
      for (int64_t oh = rows.first; oh <= rows.last; ++oh) {
        const int64_t i = h + s.pad_h - oh * s.stride_h;
        if (s.dilation_h > 1 && i % s.dilation_h) continue;
        for (int64_t ow = columns.first; ow <= columns.last; ++ow) {
          const int64_t j = w + s.pad_w - ow * s.stride_w;
          if (s.dilation_w > 1 && j % s.dilation_w) continue;
          const int32_t here = static_cast<int32_t>(i / s.dilation_h * s.kw + j / s.dilation_w);
          const float* grad = g + oh * pool.grad_output.h + ow * pool.grad_output.w + c;
          widen_taps(taps + oh * pool.taps.h + ow * pool.taps.w + c, tap, count);
          for (int64_t k = 0; k < count; ++k) sum[k] += tap[k] == here ? grad[k] : 0.0f;
        }
      }
      std::memcpy(out + c, sum, count * sizeof(float));
    }
  }
}

template <int... Lane>
inline Vec interleave_low(Vec a, Vec b, std::integer_sequence<int, Lane...>) {
  return pick(a, b, std::integer_sequence<int, (Lane % 2 ? kLanes + Lane / 2 : Lane / 2)...>{});
}
template <int... Lane>
inline Vec interleave_high(Vec a, Vec b, std::integer_sequence<int, Lane...>) {
  return pick(a, b, std::integer_sequence<int, kLanes / 2 + (Lane % 2 ? kLanes + Lane / 2 : Lane / 2)...>{});
}

void max_pool2d_backward_plane_2x2(const MaxPool2dBackward& pool, int64_t n, int64_t c) {
  const Pool2dShape& s = pool.shape;
  constexpr auto kAll = std::make_integer_sequence<int, kLanes>{};
  float* plane = pool.grad_input.data + n * pool.grad_input.n + c * pool.grad_input.c;
  int32_t wide[kTapBlock + kLanes] = {};
  for (int64_t h = 0; h < s.ih; ++h) {
    float* out = plane + h * pool.grad_input.h;
    const int64_t oh = h / 2, windows = oh < s.oh ? s.ow : 0;
    const float* g = pool.grad_output.data + n * pool.grad_output.n + c * pool.grad_output.c + oh * pool.grad_output.h;
    const uint8_t* taps = pool.taps.data + n * pool.taps.n + c * pool.taps.c + oh * pool.taps.h;
    const uint8_t left = static_cast<uint8_t>(h % 2 * 2);
    for (int64_t ow = 0; ow < windows; ow += kLanes) {
      const int64_t count = min(kLanes, windows - ow);
      if (ow % kTapBlock == 0) widen_taps(taps + ow, wide, min(kTapBlock, windows - ow));
      const IntVec tap = load(wide + ow % kTapBlock);
      const Vec grad = count == kLanes ? load(g + ow) : load_first(g + ow, count);
      const Vec even = tap == broadcast_int(left) ? grad : Vec{}, odd = tap == broadcast_int(left + 1) ? grad : Vec{};
      const Vec pixels[2] = {interleave_low(even, odd, kAll), interleave_high(even, odd, kAll)};
      if (count == kLanes) {
        store(out + 2 * ow, pixels[0]);
        store(out + 2 * ow + kLanes, pixels[1]);
      } else {
        std::memcpy(out + 2 * ow, pixels, 2 * count * sizeof(float));
      }
    }
    for (int64_t w = 2 * windows; w < s.iw; ++w) out[w] = 0.0f;  // a last column or row that no window covers
  }
}

}  // namespace
}  // namespace convkit
