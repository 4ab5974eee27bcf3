// The gradient of max-pooling: every pixel gathers from the windows that reach it, in row-major order, so that there
// are no atomics and no zeros to write first.
#include "cuda/max_pool2d.cuh"
#include "cuda/max_pool2d.h"
#include "cuda/max_pool2d_two_apart.cuh"

namespace convkit::cuda {
namespace {

// The windows whose span reaches a position along one dimension, padding counted: [first, last], clamped to the output.
struct Reaching {
  int64_t first, last;

  __device__ Reaching(int64_t position, int64_t kernel, int64_t dilation, int64_t stride, int64_t size) {
    const int64_t before = position - (kernel - 1) * dilation + stride - 1;  // of the first window, rounded up
    int64_t low = before < 0 ? 0 : before, high = position;
    first = divide(low, stride), last = min(divide(high, stride), size - 1);
  }
};

// Calls body(oh, ow, tap) for the windows that hold position (h, w) of the image, in row-major order, and the tap at
// which they hold it.
template <typename Body>
__device__ void for_each_window(const Pool2dShape& s, int64_t h, int64_t w, const Body& body) {
  h += s.pad_h, w += s.pad_w;
  const Reaching rows(h, s.kh, s.dilation_h, s.stride_h, s.oh), columns(w, s.kw, s.dilation_w, s.stride_w, s.ow);
  for (int64_t oh = rows.first; oh <= rows.last; ++oh) {
    int64_t rest_h = h - oh * s.stride_h;
    const int64_t i = divide(rest_h, s.dilation_h);
    if (rest_h) continue;
    for (int64_t ow = columns.first; ow <= columns.last; ++ow) {
      int64_t rest_w = w - ow * s.stride_w;
      const int64_t j = divide(rest_w, s.dilation_w);
      if (!rest_w) body(oh, ow, i * s.kw + j);
    }
  }
}

template <typename T, typename Tap>
__global__ void backward_kernel(MaxPool2dBackward<T, Tap> pool, int64_t count) {
  const Pool2dShape& s = pool.shape;
  for_each_index(count, [&](int64_t index) {
    const Index4d at = index_4d(index, s.c, s.ih, s.iw, pool.channels_last);
    GradientSum<T> sum = 0;
    for_each_window(s, at.h, at.w, [&](int64_t oh, int64_t ow, int64_t tap) {
      const Index4d window{at.n, at.c, oh, ow};
      if (element(pool.taps, window) == static_cast<Tap>(tap)) sum += GradientSum<T>(element(pool.grad_output, window));
    });
    pool.grad_input.data[index] = T(sum);
  });
}

template <typename T, typename Tap>
__global__ void backward_channels_last_kernel(MaxPool2dBackward<T, Tap> pool, int64_t count) {
  constexpr int kLanes = Pack<T>::kLanes;
  const Pool2dShape& s = pool.shape;
  for_each_index(count, [&](int64_t index) {
    Index4d at = index_4d(index, s.c / kLanes, s.ih, s.iw, true);
    at.c *= kLanes;
    GradientSum<T> sum[kLanes] = {};
    for_each_window(s, at.h, at.w, [&](int64_t oh, int64_t ow, int64_t tap) {
      const Index4d window{at.n, at.c, oh, ow};
      const auto taps = reinterpret_cast<const TapPack<Tap, kLanes>&>(element(pool.taps, window));
      const auto grads = reinterpret_cast<const Pack<T>&>(element(pool.grad_output, window));
#pragma unroll
      for (int l = 0; l < kLanes; ++l)
        if (taps.lane[l] == static_cast<Tap>(tap)) sum[l] += GradientSum<T>(grads.lane[l]);
    });
    Pack<T> result;
#pragma unroll
    for (int l = 0; l < kLanes; ++l) result.lane[l] = T(sum[l]);
    reinterpret_cast<Pack<T>*>(pool.grad_input.data)[index] = result;
  });
}

template <typename T>
__global__ void backward_tiled_kernel(MaxPool2dBackward<T, uint8_t> pool, int64_t count) {
  constexpr int kLanes = Pack<T>::kLanes, kWindows = kLanes / 2;
  const int64_t packs = pool.shape.iw / kLanes;
  for_each_index(count, [&](int64_t index) {
    int64_t column = index;
    const int64_t row = divide(column, packs);
    struct alignas(8) Grads {
      T lane[kWindows];
    };
    const Grads grads = reinterpret_cast<const Grads*>(pool.grad_output.data)[index];
    const auto taps = reinterpret_cast<const TapPack<uint8_t, kWindows>*>(pool.taps.data)[index];
    Pack<T> result[2];
#pragma unroll
    for (int l = 0; l < kWindows; ++l)
#pragma unroll
      for (int tap = 0; tap < 4; ++tap)
        // As a sum of one term: from -0.0 it makes 0.0.
        result[tap / 2].lane[2 * l + tap % 2] =
            T(GradientSum<T>(0) + (taps.lane[l] == tap ? GradientSum<T>(grads.lane[l]) : GradientSum<T>(0)));
    auto* upper = reinterpret_cast<Pack<T>*>(pool.grad_input.data) + 2 * row * packs + column;
    upper[0] = result[0], upper[packs] = result[1];
  });
}

// Contiguous planes and windows of K x K one apart, in 32-bit arithmetic: a thread takes four pixels of a row.
template <typename T, int K>
__global__ void backward_planes_kernel(MaxPool2dBackward<T, uint8_t> pool, int strips, int64_t count) {
  constexpr int kStrip = 4, kWindows = kStrip + K - 1;  // that reach a strip, along a row
  const Pool2dShape& s = pool.shape;
  const int iw = static_cast<int>(s.iw), oh = static_cast<int>(s.oh), ow = static_cast<int>(s.ow);
  for_each_index(count, [&](int64_t index) {
    int64_t strip = index, row = divide(strip, strips);
    const int64_t plane = divide(row, s.ih);
    const int w0 = static_cast<int>(strip) * kStrip, left = w0 + static_cast<int>(s.pad_w);
    const int top = static_cast<int>(row) + static_cast<int>(s.pad_h);
    const int first = max(left - K + 1, 0), first_row = max(top - K + 1, 0);
    const uint8_t* taps = pool.taps.data + plane * s.oh * s.ow;
    const T* grads = pool.grad_output.data + plane * s.oh * s.ow;
    GradientSum<T> sum[kStrip] = {};
    for (int h = first_row; h < oh && h <= top; ++h) {
#pragma unroll
      for (int m = 0; m < kWindows; ++m) {
        const int w = first + m;
        if (w >= ow || w > left + kStrip - 1) continue;
        const int tap = taps[h * ow + w] - (top - h) * K - (left - w);  // of each pixel, its number
        const auto grad = GradientSum<T>(grads[h * ow + w]);
#pragma unroll
        for (int p = 0; p < kStrip; ++p) {
          const int j = left + p - w;
          if (tap == p && j >= 0 && j < K) sum[p] += grad;
        }
      }
    }
    T* out = pool.grad_input.data + (plane * s.ih + row) * s.iw + w0;
    struct alignas(kStrip * sizeof(T)) Strip {
      T lane[kStrip];
    } result;
#pragma unroll
    for (int p = 0; p < kStrip; ++p) result.lane[p] = T(sum[p]);
    if (iw % kStrip == 0) {
      *reinterpret_cast<Strip*>(out) = result;
    } else {
      for (int p = 0; p < kStrip && w0 + p < iw; ++p) out[p] = result.lane[p];
    }
  });
}

}  // namespace

template <typename T, typename Tap>
int launch_max_pool2d_backward(const MaxPool2dBackward<T, Tap>& pool, void* stream) {
  const Pool2dShape& s = pool.shape;
  constexpr int kLanes = Pack<T>::kLanes;
  const int64_t count = s.n * s.c * s.ih * s.iw;
  const bool aligned = are_aligned(pool.grad_output.data, pool.taps.data, pool.grad_input.data);
  const bool whole = !pool.channels_last || s.c % kLanes == 0;
  if constexpr (sizeof(Tap) == 1) {
    if (!pool.channels_last && aligned && are_tiles<T>(s)) {
      const int64_t packs = s.n * s.c * s.oh * (s.iw / kLanes);
      return launch(backward_tiled_kernel<T>, {blocks_for(packs), kThreads}, stream, pool, packs);
    }
    if (are_two_apart(s) && whole && aligned) {
      if (s.kh == 2) return s.pad_h ? launch_two_apart<T, 2, 1>(pool, stream) : launch_two_apart<T, 2, 0>(pool, stream);
      if (s.kh == 3) return s.pad_h ? launch_two_apart<T, 3, 1>(pool, stream) : launch_two_apart<T, 3, 0>(pool, stream);
    }
    if (!pool.channels_last && aligned && are_small_squares(s) && s.stride_h == 1 && (s.kh == 2 || s.kh == 3)) {
      const auto strips = static_cast<int>(ceil_div(s.iw, 4));
      const int64_t total = s.n * s.c * s.ih * strips;
      return launch(s.kh == 2 ? backward_planes_kernel<T, 2> : backward_planes_kernel<T, 3>,
                    {blocks_for(total), kThreads}, stream, pool, strips, total);
    }
  }
  if (pool.channels_last && whole && aligned)
    return launch(backward_channels_last_kernel<T, Tap>, {blocks_for(count / kLanes), kThreads}, stream, pool,
                  count / kLanes);
  return launch(backward_kernel<T, Tap>, {blocks_for(count), kThreads}, stream, pool, count);
}

#define CONVKIT_INSTANTIATE(T)                                                                      \
  template int launch_max_pool2d_backward<T, uint8_t>(const MaxPool2dBackward<T, uint8_t>&, void*); \
  template int launch_max_pool2d_backward<T, int32_t>(const MaxPool2dBackward<T, int32_t>&, void*);
CONVKIT_INSTANTIATE(Half)
CONVKIT_INSTANTIATE(BFloat16)
CONVKIT_INSTANTIATE(float)
CONVKIT_INSTANTIATE(double)

}  // namespace convkit::cuda
