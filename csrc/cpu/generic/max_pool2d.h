// Max-pooling as its definition reads, for any real dtype, strides and window, with taps of one or four bytes.
#pragma once

#include <limits>

#include "common/conv2d_shape.h"
#include "common/half.h"
#include "common/pool2d_shape.h"

namespace convkit {

template <typename T>
T lowest() {
  if constexpr (std::numeric_limits<T>::is_specialized)
    return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity()
                                                : std::numeric_limits<T>::lowest();
  else
    return T(-std::numeric_limits<float>::infinity());  // BFloat16, Half
}

// output[n, c, oh, :] and, where taps is not null, taps[n, c, oh, :] with the output's strides.
template <typename T, typename Tap>
void max_pool2d_row(const Pool2dShape& s, const View4d<const T>& input, const View4d<T>& output, Tap* taps, int64_t n,
                    int64_t c, int64_t oh) {
  const WindowRange h = window_h(s, oh);
  const int64_t h0 = oh * s.stride_h - s.pad_h;
  for (int64_t ow = 0; ow < s.ow; ++ow) {
    const WindowRange w = window_w(s, ow);
    const int64_t w0 = ow * s.stride_w - s.pad_w;
    const T* x = input.data + n * input.n + c * input.c;
    T best = lowest<T>();
    int64_t tap = h.begin * s.kw + w.begin;
    for (int64_t i = h.begin; i < h.end; ++i) {
      for (int64_t j = w.begin; j < w.end; ++j) {
        const T v = x[(h0 + i * s.dilation_h) * input.h + (w0 + j * s.dilation_w) * input.w];
        if (v > best || v != v) best = v, tap = i * s.kw + j;
      }
    }
    const int64_t out = n * output.n + c * output.c + oh * output.h + ow * output.w;
    output.data[out] = best;
    if (taps) taps[out] = static_cast<Tap>(tap);
  }
}

// Whether every tap names a position inside its window and inside the image, or is dead. `taps` is dense.
template <typename Tap>
bool taps_are_inside(const Pool2dShape& s, const View4d<const Tap>& taps) {
  const bool may_be_dead = sizeof(Tap) == 1 && s.area() < kDeadTap;
  const Tap dead = may_be_dead ? static_cast<Tap>(kDeadTap) : Tap(0), area = static_cast<Tap>(s.area());
  const int64_t count = s.n * s.c * s.oh * s.ow;
  Tap outside = 0;  // as wide as a tap, which lets compilers use vectors
  for (int64_t i = 0; i < count; ++i) {
    const Tap tap = taps.data[i];
    outside |= static_cast<Tap>(((tap < 0) | (tap >= area)) & (tap != dead));
  }
  if (outside) return false;
  for (int64_t oh = 0; oh < s.oh; ++oh) {
    const WindowRange h = window_h(s, oh);
    for (int64_t ow = 0; ow < s.ow; ++ow) {
      const WindowRange w = window_w(s, ow);
      if ((h.end - h.begin == s.kh && w.end - w.begin == s.kw) || h.empty() || w.empty()) continue;
      const auto inside = [&](int64_t tap) {
        const int64_t i = tap / s.kw, j = tap % s.kw;
        return i >= h.begin && i < h.end && j >= w.begin && j < w.end;
      };
      bool byte_inside[kLargestByteArea + 1] = {};  // by tap, so that the planes need no division
      for (int64_t tap = 0; sizeof(Tap) == 1 && tap < s.area(); ++tap) byte_inside[tap] = inside(tap);
      if (may_be_dead) byte_inside[kDeadTap] = true;
      for (int64_t n = 0; n < s.n; ++n) {
        for (int64_t c = 0; c < s.c; ++c) {
          const Tap tap = taps.data[n * taps.n + c * taps.c + oh * taps.h + ow * taps.w];
          if (!(sizeof(Tap) == 1 ? byte_inside[static_cast<uint8_t>(tap)] : inside(tap))) return false;
        }
      }
    }
  }
  return true;
}

// grad_input[n, c, h, :]: each element sums the gradients of the windows that it won, in row-major order of the
// windows.
template <typename T, typename Tap>
void max_pool2d_backward_row(const Pool2dShape& s, const View4d<const T>& grad_output, const View4d<const Tap>& taps,
                             const View4d<T>& grad_input, int64_t n, int64_t c, int64_t h) {
  using Sum = std::conditional_t<std::is_same_v<T, float>, float, typename Accumulator<T>::type>;
  // Windows whose span reaches this row: oh in [first, last].
  const int64_t first_h = max(0, ceil_div(h + s.pad_h - (s.kh - 1) * s.dilation_h, s.stride_h));
  const int64_t last_h = min(s.oh - 1, (h + s.pad_h) / s.stride_h);
  for (int64_t w = 0; w < s.iw; ++w) {
    const int64_t first_w = max(0, ceil_div(w + s.pad_w - (s.kw - 1) * s.dilation_w, s.stride_w));
    const int64_t last_w = min(s.ow - 1, (w + s.pad_w) / s.stride_w);
    Sum sum = 0;
    for (int64_t oh = first_h; oh <= last_h; ++oh) {
      const int64_t i = h + s.pad_h - oh * s.stride_h;
      if (i % s.dilation_h) continue;
      for (int64_t ow = first_w; ow <= last_w; ++ow) {
        const int64_t j = w + s.pad_w - ow * s.stride_w;
        if (j % s.dilation_w) continue;
        const int64_t tap = taps.data[n * taps.n + c * taps.c + oh * taps.h + ow * taps.w];
        if (tap == i / s.dilation_h * s.kw + j / s.dilation_w)
          sum += Sum(grad_output.data[n * grad_output.n + c * grad_output.c + oh * grad_output.h + ow * grad_output.w]);
      }
    }
    grad_input.data[n * grad_input.n + c * grad_input.c + h * grad_input.h + w * grad_input.w] = T(sum);
  }
}

// The same for one whole plane: gradients are handed out in row-major order of the windows, which adds them up in the
// same order. The taps have been checked. T is float or double.
template <typename T, typename Tap>
void max_pool2d_backward_plane(const Pool2dShape& s, const View4d<const T>& grad_output, const View4d<const Tap>& taps,
                               const View4d<T>& grad_input, int64_t n, int64_t c) {
  T* plane = grad_input.data + n * grad_input.n + c * grad_input.c;
  for (int64_t h = 0; h < s.ih; ++h)
    for (int64_t w = 0; w < s.iw; ++w) plane[h * grad_input.h + w * grad_input.w] = 0;
  const bool bytes = s.area() <= kLargestByteArea;
  int64_t offset[kLargestByteArea];  // of each tap from its window's corner
  for (int64_t tap = 0; bytes && tap < s.area(); ++tap)
    offset[tap] = tap / s.kw * s.dilation_h * grad_input.h + tap % s.kw * s.dilation_w * grad_input.w;
  const bool may_be_empty = s.dilation_h > 1 || s.dilation_w > 1;
  for (int64_t oh = 0; oh < s.oh; ++oh) {
    if (may_be_empty && window_h(s, oh).empty()) continue;
    const T* g = grad_output.data + n * grad_output.n + c * grad_output.c + oh * grad_output.h;
    const Tap* t = taps.data + n * taps.n + c * taps.c + oh * taps.h;
    T* corner = plane + (oh * s.stride_h - s.pad_h) * grad_input.h - s.pad_w * grad_input.w;
    for (int64_t ow = 0; ow < s.ow; ++ow, corner += s.stride_w * grad_input.w) {
      const int64_t tap = t[ow * taps.w];
      if ((bytes && tap >= s.area()) || (may_be_empty && window_w(s, ow).empty())) continue;  // dead
      corner[bytes ? offset[tap]
                   : tap / s.kw * s.dilation_h * grad_input.h + tap % s.kw * s.dilation_w * grad_input.w] +=
          g[ow * grad_output.w];
    }
  }
}

}  // namespace convkit
