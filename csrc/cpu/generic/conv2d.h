// Convolution as its definition reads, for any dtype, strides and arguments: the fallback of every other algorithm and
// the reference to read first. Sums are kept in a wider type (16-bit and float32) and added up in short chains.
#pragma once

#include "common/conv2d_shape.h"
#include "common/half.h"
#include "common/int_math.h"

namespace convkit {

// The taps k in [begin, end) with 0 <= start + k * step < size, for k < count.
struct TapRange {
  int64_t begin, end;

  TapRange(int64_t start, int64_t step, int64_t count, int64_t size)
      : begin(start >= 0 ? 0 : min(ceil_div(-start, step), count)),
        end(start >= size ? begin : clamp((size - 1 - start) / step + 1, begin, count)) {}
};

template <typename T>
struct GenericConv2d {
  using Sum = typename Accumulator<T>::type;

  Conv2dShape shape;
  View4d<T> input, weight, output;  // grad_* in the backward directions
  const T* bias = nullptr;
  int64_t bias_stride = 0;

  // output[n, oc, oh, :]
  void forward_row(int64_t n, int64_t oc, int64_t oh) const {
    const Conv2dShape& s = shape;
    const int64_t ic0 = oc / s.group_oc() * s.group_ic();
    const int64_t h0 = oh * s.stride_h - s.pad_top;
    const TapRange kh(h0, s.dilation_h, s.kh, s.ih);
    for (int64_t ow = 0; ow < s.ow; ++ow) {
      const int64_t w0 = ow * s.stride_w - s.pad_left;
      const TapRange kw(w0, s.dilation_w, s.kw, s.iw);
      Sum total = 0;
      for (int64_t ic = 0; ic < s.group_ic(); ++ic) {
        const T* x = input.data + n * input.n + (ic0 + ic) * input.c;
        const T* w = weight.data + oc * weight.n + ic * weight.c;
        Sum window = 0;
        for (int64_t i = kh.begin; i < kh.end; ++i)
          for (int64_t j = kw.begin; j < kw.end; ++j)
            window += Sum(x[(h0 + i * s.dilation_h) * input.h + (w0 + j * s.dilation_w) * input.w]) *
                      Sum(w[i * weight.h + j * weight.w]);
        total += window;
      }
      if (bias) total += Sum(bias[oc * bias_stride]);
      output.data[n * output.n + oc * output.c + oh * output.h + ow * output.w] = T(total);
    }
  }

  // grad_input[n, ic, ih, :] gathers from every output pixel whose window covers it.
  void backward_input_row(int64_t n, int64_t ic, int64_t ih) const {
    const Conv2dShape& s = shape;
    const int64_t group = ic / s.group_ic();
    for (int64_t iw = 0; iw < s.iw; ++iw) {
      Sum total = 0;
      for (int64_t oc = group * s.group_oc(); oc < (group + 1) * s.group_oc(); ++oc) {
        const T* dy = output.data + n * output.n + oc * output.c;
        const T* w = weight.data + oc * weight.n + (ic - group * s.group_ic()) * weight.c;
        Sum window = 0;
        for (int64_t i = 0; i < s.kh; ++i) {
          const int64_t h = ih + s.pad_top - i * s.dilation_h;
          if (h < 0) break;
          if (h % s.stride_h || h / s.stride_h >= s.oh) continue;
          for (int64_t j = 0; j < s.kw; ++j) {
            const int64_t v = iw + s.pad_left - j * s.dilation_w;
            if (v < 0) break;
            if (v % s.stride_w || v / s.stride_w >= s.ow) continue;
            window +=
                Sum(dy[h / s.stride_h * output.h + v / s.stride_w * output.w]) * Sum(w[i * weight.h + j * weight.w]);
          }
        }
        total += window;
      }
      input.data[n * input.n + ic * input.c + ih * input.h + iw * input.w] = T(total);
    }
  }

  // grad_weight[oc, ic, :, :]
  void backward_weight_window(int64_t oc, int64_t ic) const {
    const Conv2dShape& s = shape;
    const int64_t channel = oc / s.group_oc() * s.group_ic() + ic;
    for (int64_t i = 0; i < s.kh; ++i) {
      for (int64_t j = 0; j < s.kw; ++j) {
        const TapRange oh(i * s.dilation_h - s.pad_top, s.stride_h, s.oh, s.ih);
        const TapRange ow(j * s.dilation_w - s.pad_left, s.stride_w, s.ow, s.iw);
        Sum total = 0;
        for (int64_t n = 0; n < s.n; ++n) {
          Sum image = 0;
          for (int64_t h = oh.begin; h < oh.end; ++h) {
            const T* x = input.data + n * input.n + channel * input.c +
                         (h * s.stride_h + i * s.dilation_h - s.pad_top) * input.h +
                         (j * s.dilation_w - s.pad_left) * input.w;
            const T* dy = output.data + n * output.n + oc * output.c + h * output.h;
            Sum row = 0;
            for (int64_t w = ow.begin; w < ow.end; ++w) row += Sum(x[w * s.stride_w * input.w]) * Sum(dy[w * output.w]);
            image += row;
          }
          total += image;
        }
        weight.data[oc * weight.n + ic * weight.c + i * weight.h + j * weight.w] = T(total);
      }
    }
  }
};

// sum over n, h, w of channel c.
template <typename T>
T sum_channel(const View4d<const T>& x, int64_t c, int64_t n, int64_t h, int64_t w) {
  using Sum = typename Accumulator<T>::type;
  constexpr int64_t kChains = 8;  // independent chains of additions, which the compiler keeps in vectors
  Sum total = 0;
  for (int64_t i = 0; i < n; ++i) {
    Sum image = 0;
    for (int64_t j = 0; j < h; ++j) {
      const T* row = x.data + i * x.n + c * x.c + j * x.h;
      Sum chain[kChains] = {};
      int64_t k = 0;
      for (; k + kChains <= w; k += kChains)
        for (int64_t l = 0; l < kChains; ++l) chain[l] += Sum(row[(k + l) * x.w]);
      for (; k < w; ++k) chain[0] += Sum(row[k * x.w]);
      for (int64_t l = 0; l < kChains; ++l) image += chain[l];
    }
    total += image;
  }
  return T(total);
}

}  // namespace convkit
