#include "cpu/conv2d_phases.h"

#include <cstring>
#include <numeric>

#include "common/conv2d_phase.h"
#include "cpu/parallel.h"

namespace convkit {
namespace {

// The whole gradient, which is dense: a few bytes more than the phases without taps, but without gaps.
template <typename T>
void fill_zero(const View4d<T>& grad_input, const Conv2dShape& s) {
  constexpr int64_t kBlock = 1 << 16;
  const int64_t numel = s.n * s.ic * s.ih * s.iw;
  parallel_tasks(ceil_div(numel, kBlock), static_cast<double>(numel), [&](int64_t i) {
    std::memset(static_cast<void*>(grad_input.data + i * kBlock), 0, min(kBlock, numel - i * kBlock) * sizeof(T));
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

template <typename T>
void for_each_phase(const Conv2dShape& s, const View4d<const T>& weight, const View4d<T>& grad_input,
                    const PhaseBody<T>& body) {
  const auto phase_h = [&](int64_t h0) { return make_phase(h0, s.stride_h, s.pad_top, s.dilation_h, s.kh, s.ih); };
  const auto phase_w = [&](int64_t w0) { return make_phase(w0, s.stride_w, s.pad_left, s.dilation_w, s.kw, s.iw); };
  const int64_t phases_h = min(s.stride_h, s.ih), phases_w = min(s.stride_w, s.iw);
  bool all_have_taps = true;
  for (int64_t h0 = 0; h0 < phases_h; ++h0) all_have_taps &= phase_h(h0).taps > 0;
  for (int64_t w0 = 0; w0 < phases_w; ++w0) all_have_taps &= phase_w(w0).taps > 0;
  if (!all_have_taps) fill_zero(grad_input, s);
  for (int64_t h0 = 0; h0 < phases_h; ++h0) {
    const Phase h = phase_h(h0);
    for (int64_t w0 = 0; w0 < phases_w; ++w0) {
      const Phase w = phase_w(w0);
      if (h.taps == 0 || w.taps == 0) continue;
      // A convolution of grad_output with the phase's taps, rotated, input and output channels exchanged.
      const Conv2dShape phase{s.n,    s.oc, s.oh, s.ow,  s.ic,  h.size,     w.size,     h.taps,
                              w.taps, 1,    1,    h.pad, w.pad, h.dilation, w.dilation, s.groups};
      const View4d<const T> rotated{weight.data + h.last() * weight.h + w.last() * weight.w, weight.c, weight.n,
                                    -h.step * weight.h, -w.step * weight.w};
      const View4d<T> pixels{grad_input.data + h0 * grad_input.h + w0 * grad_input.w, grad_input.n, grad_input.c,
                             s.stride_h * grad_input.h, s.stride_w * grad_input.w};
      body(phase, rotated, pixels);
    }
  }
}

template void for_each_phase(const Conv2dShape&, const View4d<const float>&, const View4d<float>&,
                             const PhaseBody<float>&);
template void for_each_phase(const Conv2dShape&, const View4d<const BFloat16>&, const View4d<BFloat16>&,
                             const PhaseBody<BFloat16>&);

}  // namespace convkit
