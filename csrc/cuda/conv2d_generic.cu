// Convolution as its definition reads, for any dtype, strides and arguments: the fallback of every other algorithm.
#include "cuda/conv2d_generic.h"
#include "cuda/index.cuh"
#include "cuda/max_pool2d.cuh"
#include "cuda/relu.cuh"
#include "cuda/sum.cuh"

namespace convkit::cuda {
namespace {

// output[at] of the convolution, bias and ReLU.
template <typename T>
__device__ T conv2d_at(const Conv2dGeneric<T>& conv, const Index4d& at) {
  const Conv2dShape& s = conv.shape;
  const int64_t group = at.c / s.group_oc(), h0 = at.h * s.stride_h - s.pad_top, w0 = at.w * s.stride_w - s.pad_left;
  const T* x = conv.input.data + at.n * conv.input.n + group * s.group_ic() * conv.input.c;
  const T* k = conv.weight.data + at.c * conv.weight.n;
  ChainedSum<Sum<T>> sum;
  for (int64_t ic = 0; ic < s.group_ic(); ++ic) {
    for (int64_t i = 0; i < s.kh; ++i) {
      const int64_t h = h0 + i * s.dilation_h;
      if (h < 0 || h >= s.ih) continue;
      for (int64_t j = 0; j < s.kw; ++j) {
        const int64_t w = w0 + j * s.dilation_w;
        if (w < 0 || w >= s.iw) continue;
        sum.add(Sum<T>(x[ic * conv.input.c + h * conv.input.h + w * conv.input.w]) *
                Sum<T>(k[ic * conv.weight.c + i * conv.weight.h + j * conv.weight.w]));
      }
    }
  }
  Sum<T> total = sum.total();
  if (conv.bias) total += Sum<T>(conv.bias[at.c * conv.bias_stride]);
  return conv.relu ? relu(T(total)) : T(total);
}

template <typename T>
__global__ void conv2d_kernel(Conv2dGeneric<T> conv, View4d<T> output, int64_t count) {
  const Conv2dShape& s = conv.shape;
  for_each_index(count, [&](int64_t i) {
    const Index4d at = index_4d(i, s.oc, s.oh, s.ow, output.c == 1);
    element(output, at) = conv2d_at(conv, at);
  });
}

template <typename T>
__global__ void conv2d_max_pool2d_kernel(Conv2dGenericPool<T> fused, int64_t count) {
  const Pool2dShape& pool = fused.pool;
  for_each_index(count, [&](int64_t i) {
    const Index4d at = index_4d(i, pool.c, pool.oh, pool.ow, fused.channels_last);
    const Winner<T> winner = max_of_window<T>(
        pool, at, fused.channels_last, [&](int64_t h, int64_t w) { return conv2d_at(fused.conv, {at.n, at.c, h, w}); });
    fused.output.data[i] = winner.value;
    if (fused.taps) fused.taps[i] = winner.template stored_tap<uint8_t>(fused.conv.relu);
  });
}

template <typename T>
__global__ void backward_input_kernel(Conv2dShape s, View4d<const T> grad_output, View4d<const T> weight,
                                      View4d<T> grad_input, int64_t count) {
  for_each_index(count, [&](int64_t index) {
    const Index4d at = index_4d(index, s.ic, s.ih, s.iw, grad_input.c == 1);
    const int64_t group = at.c / s.group_ic();
    const T* k = weight.data + (at.c - group * s.group_ic()) * weight.c;
    const T* dy = grad_output.data + at.n * grad_output.n;
    ChainedSum<Sum<T>> sum;
    for (int64_t oc = group * s.group_oc(); oc < (group + 1) * s.group_oc(); ++oc) {
      for (int64_t i = 0; i < s.kh; ++i) {
        const int64_t h = at.h + s.pad_top - i * s.dilation_h;
        if (h < 0 || h % s.stride_h || h / s.stride_h >= s.oh) continue;
        for (int64_t j = 0; j < s.kw; ++j) {
          const int64_t w = at.w + s.pad_left - j * s.dilation_w;
          if (w < 0 || w % s.stride_w || w / s.stride_w >= s.ow) continue;
          const T gradient = dy[oc * grad_output.c + h / s.stride_h * grad_output.h + w / s.stride_w * grad_output.w];
          sum.add(Sum<T>(gradient) * Sum<T>(k[oc * weight.n + i * weight.h + j * weight.w]));
        }
      }
    }
    element(grad_input, at) = T(sum.total());
  });
}

// One block per weight; a warp takes a row of pixels.
template <typename T>
__global__ void backward_weight_kernel(Conv2dShape s, View4d<const T> grad_output, View4d<const T> input,
                                       View4d<T> grad_weight, int64_t count) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int64_t index = blockIdx.x; index < count; index += gridDim.x) {
    const Index4d at = index_4d(index, s.group_ic(), s.kh, s.kw, false);  // output channel, input channel, tap
    const int64_t channel = at.n / s.group_oc() * s.group_ic() + at.c;
    ChainedSum<Sum<T>> sum;
    for (int64_t row = warp; row < s.n * s.oh; row += blockDim.x / 32) {
      int64_t oh = row;
      const int64_t n = divide(oh, s.oh), h = oh * s.stride_h - s.pad_top + at.h * s.dilation_h;
      if (h < 0 || h >= s.ih) continue;
      const T* x = input.data + n * input.n + channel * input.c + h * input.h;
      const T* dy = grad_output.data + n * grad_output.n + at.n * grad_output.c + oh * grad_output.h;
      for (int64_t ow = lane; ow < s.ow; ow += 32) {
        const int64_t w = ow * s.stride_w - s.pad_left + at.w * s.dilation_w;
        if (w >= 0 && w < s.iw) sum.add(Sum<T>(x[w * input.w]) * Sum<T>(dy[ow * grad_output.w]));
      }
    }
    const Sum<T> total = block_sum(sum.total());
    if (threadIdx.x == 0) element(grad_weight, at) = T(total);
  }
}

}  // namespace

template <typename T>
int launch_conv2d_generic(const Conv2dGeneric<T>& conv, const View4d<T>& output, void* stream) {
  const Conv2dShape& s = conv.shape;
  const int64_t count = s.n * s.oc * s.oh * s.ow;
  return launch(conv2d_kernel<T>, {blocks_for(count), kThreads}, stream, conv, output, count);
}

template <typename T>
int launch_conv2d_generic_max_pool2d(const Conv2dGenericPool<T>& fused, void* stream) {
  const Pool2dShape& pool = fused.pool;
  const int64_t count = pool.n * pool.c * pool.oh * pool.ow;
  return launch(conv2d_max_pool2d_kernel<T>, {blocks_for(count), kThreads}, stream, fused, count);
}

template <typename T>
int launch_conv2d_generic_backward_input(const Conv2dShape& s, const View4d<const T>& grad_output,
                                         const View4d<const T>& weight, const View4d<T>& grad_input, void* stream) {
  const int64_t count = s.n * s.ic * s.ih * s.iw;
  return launch(backward_input_kernel<T>, {blocks_for(count), kThreads}, stream, s, grad_output, weight, grad_input,
                count);
}

template <typename T>
int launch_conv2d_generic_backward_weight(const Conv2dShape& s, const View4d<const T>& grad_output,
                                          const View4d<const T>& input, const View4d<T>& grad_weight, void* stream) {
  const int64_t count = s.oc * s.group_ic() * s.kh * s.kw;
  const auto warps = static_cast<unsigned>(clamp(s.n * s.oh * s.ow / 256, 1, kThreads / 32));
  const Grid grid{blocks_for(count, 1), 32 * warps, sizeof(Sum<T>[32])};
  return launch(backward_weight_kernel<T>, grid, stream, s, grad_output, input, grad_weight, count);
}

#define CONVKIT_INSTANTIATE(T)                                                                           \
  template int launch_conv2d_generic<T>(const Conv2dGeneric<T>&, const View4d<T>&, void*);               \
  template int launch_conv2d_generic_max_pool2d<T>(const Conv2dGenericPool<T>&, void*);                  \
  template int launch_conv2d_generic_backward_input<T>(const Conv2dShape&, const View4d<const T>&,       \
                                                       const View4d<const T>&, const View4d<T>&, void*); \
  template int launch_conv2d_generic_backward_weight<T>(const Conv2dShape&, const View4d<const T>&,      \
                                                        const View4d<const T>&, const View4d<T>&, void*);
CONVKIT_INSTANTIATE(Half)
CONVKIT_INSTANTIATE(BFloat16)
CONVKIT_INSTANTIATE(float)
CONVKIT_INSTANTIATE(double)

}  // namespace convkit::cuda
