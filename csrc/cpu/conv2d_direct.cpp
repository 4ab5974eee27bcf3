#include "cpu/conv2d_direct.h"

#include <memory>
#include <numeric>

#include "common/int_math.h"
#include "cpu/conv2d_blocking.h"
#include "cpu/conv2d_tasks.h"
#include "cpu/isa.h"

namespace convkit {
namespace {

// The taps of one dimension that meet input positions of one phase (position % stride), as a convolution of their own.
struct Phase {
  int64_t first, step, taps;  // kernel positions first, first + step, ...
  int64_t dilation, pad;      // of the sub-convolution over grad_output
  int64_t size;               // how many input positions have this phase
};

Phase make_phase(int64_t position, int64_t stride, int64_t pad, int64_t dilation, int64_t kernel, int64_t input) {
  Phase p{0, stride / std::gcd(stride, dilation), 0, 0, 0, ceil_div(input - position, stride)};
  // position = phase + stride * i is met by tap k at output position (phase + pad - k * dilation) / stride + i.
  while (p.first < kernel && (position + pad - p.first * dilation) % stride) ++p.first;
  if (p.first >= kernel) return p;
  p.taps = ceil_div(kernel - p.first, p.step);
  p.dilation = p.step * dilation / stride;
  // Taps are walked from the last to the first, which makes it a correlation with ascending output positions.
  const int64_t last = p.first + (p.taps - 1) * p.step;
  p.pad = -((position + pad - last * dilation) / stride);
  return p;
}

void fill_zero(const View4d<float>& y, const Conv2dShape& s, int64_t h0, int64_t w0) {
  parallel_tasks(s.n * s.ic, static_cast<double>(s.n) * s.ic * s.ih * s.iw, [&](int64_t i) {
    float* plane = y.data + i / s.ic * y.n + i % s.ic * y.c;
    for (int64_t h = h0; h < s.ih; h += s.stride_h)
      for (int64_t w = w0; w < s.iw; w += s.stride_w) plane[h * y.h + w * y.w] = 0.0f;
  });
}

}  // namespace

void conv2d_direct(const Conv2dShape& shape, const View4d<const float>& input, const View4d<const float>& weight,
                   int64_t weight_group_stride, const View4d<float>& output, const Conv2dEpilogue& epilogue) {
  const Conv2dDirectKernels& kernel = kernels().conv2d_direct;
  Conv2dDirect conv{shape, {}, input, weight, weight_group_stride, epilogue.bias, output, epilogue.relu, epilogue.pool};
  // A 1-wide window reads every stride-th pixel only: drop the others from the view.
  if (shape.kh == 1 && shape.pad_top == 0) {
    conv.input.h *= shape.stride_h;
    conv.shape.ih = ceil_div(shape.ih, shape.stride_h), conv.shape.stride_h = 1;
  }
  if (shape.kw == 1 && shape.pad_left == 0) {
    conv.input.w *= shape.stride_w;
    conv.shape.iw = ceil_div(shape.iw, shape.stride_w), conv.shape.stride_w = 1;
  }
  const Conv2dSums sums = epilogue.pool ? Conv2dSums::kScratch : conv2d_sums(conv.shape, output);
  conv.blocking = conv2d_blocking(conv.shape, kernel, sums, epilogue.pool ? &epilogue.pool->shape : nullptr);
  run_tasks(conv, kernel.forward);
}

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

void conv2d_direct_backward_input(const Conv2dShape& s, const View4d<const float>& grad_output,
                                  const View4d<const float>& weight, const View4d<float>& grad_input) {
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
      const int64_t last_h = h.first + (h.taps - 1) * h.step, last_w = w.first + (w.taps - 1) * w.step;
      const View4d<const float> rotated{weight.data + last_h * weight.h + last_w * weight.w, weight.c, weight.n,
                                        -h.step * weight.h, -w.step * weight.w};
      const View4d<float> pixels{grad_input.data + h0 * grad_input.h + w0 * grad_input.w, grad_input.n, grad_input.c,
                                 s.stride_h * grad_input.h, s.stride_w * grad_input.w};
      conv2d_direct(phase, grad_output, rotated, s.group_oc() * weight.n, pixels, {});
    }
  }
}

void conv2d_direct_backward_weight(const Conv2dShape& shape, const View4d<const float>& input,
                                   const View4d<const float>& grad_output, const View4d<float>& grad_weight) {
  const Conv2dDirectKernels& kernel = kernels().conv2d_direct;
  const int64_t numel = shape.oc * shape.group_ic() * shape.kh * shape.kw;
  Conv2dBackwardWeight conv{shape, conv2d_backward_weight_blocking(shape, kernel), input, grad_output, grad_weight,
                            numel};
  const int64_t splits = conv.blocking.splits;
  if (splits == 1) return run_tasks(conv, kernel.backward_weight);
  const auto sums = std::make_unique_for_overwrite<float[]>(splits * numel);
  conv.grad_weight.data = sums.get();
  run_tasks(conv, kernel.backward_weight);
  constexpr int64_t kBlock = 4096;
  parallel_tasks(ceil_div(numel, kBlock), static_cast<double>(splits) * numel, [&](int64_t block) {
    const int64_t end = min((block + 1) * kBlock, numel);
    for (int64_t i = block * kBlock; i < end; ++i) {
      float total = sums[i];
      for (int64_t split = 1; split < splits; ++split) total += sums[split * numel + i];
      grad_weight.data[i] = total;
    }
  });
}

}  // namespace convkit
