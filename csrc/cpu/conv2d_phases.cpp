#include "cpu/conv2d_phases.h"

#include <numeric>

#include "common/conv2d_phase.h"
#include "cpu/parallel.h"

namespace convkit {
namespace {

void fill_zero(const View4d<float>& y, const Conv2dShape& s, int64_t h0, int64_t w0) {
  parallel_tasks(s.n * s.ic, static_cast<double>(s.n) * s.ic * s.ih * s.iw, [&](int64_t i) {
    float* plane = y.data + i / s.ic * y.n + i % s.ic * y.c;
    for (int64_t h = h0; h < s.ih; h += s.stride_h)
      for (int64_t w = w0; w < s.iw; w += s.stride_w) plane[h * y.h + w * y.w] = 0.0f;
  });
}

}  // namespace

Conv2dShape largest_phase(const Conv2dShape& s) {
  const int64_t step_h = s.stride_h / std::gcd(s.stride_h, s.dilation_h);
  const int64_t step_w = s.stride_w / std::gcd(s.stride_w, s.dilation_w);
  return {s.n,
          s.oc,
          s.oh,
          s.ow,
          s.ic,
          ceil_div(s.ih, s.stride_h),
          ceil_div(s.iw, s.stride_w),
          ceil_div(s.kh, step_h),
          ceil_div(s.kw, step_w),
          1,
          1,
          0,
          0,
          step_h * s.dilation_h / s.stride_h,
          step_w * s.dilation_w / s.stride_w,
          s.groups};
}

void for_each_phase(const Conv2dShape& s, const View4d<const float>& weight, const View4d<float>& grad_input,
                    const PhaseBody& body) {
  for (int64_t h0 = 0; h0 < min(s.stride_h, s.ih); ++h0) {
    const Phase h = make_phase(h0, s.stride_h, s.pad_top, s.dilation_h, s.kh, s.ih);
    for (int64_t w0 = 0; w0 < min(s.stride_w, s.iw); ++w0) {
      const Phase w = make_phase(w0, s.stride_w, s.pad_left, s.dilation_w, s.kw, s.iw);
      if (h.taps == 0 || w.taps == 0) {
        fill_zero(grad_input, s, h0, w0);
        continue;
      }
      // A convolution of grad_output with the phase's taps, rotated, input and output channels exchanged.
      const Conv2dShape phase{s.n,    s.oc, s.oh, s.ow,  s.ic,  h.size,     w.size,     h.taps,
                              w.taps, 1,    1,    h.pad, w.pad, h.dilation, w.dilation, s.groups};
      const View4d<const float> rotated{weight.data + h.last() * weight.h + w.last() * weight.w, weight.c, weight.n,
                                        -h.step * weight.h, -w.step * weight.w};
      const View4d<float> pixels{grad_input.data + h0 * grad_input.h + w0 * grad_input.w, grad_input.n, grad_input.c,
                                 s.stride_h * grad_input.h, s.stride_w * grad_input.w};
      body(phase, rotated, pixels);
    }
  }
}

}  // namespace convkit
