// Max-pooling. Bound by bandwidth: 16 bytes of channels a thread in channels_last, of a row where windows tile the
// plane by 2x2; a number a thread for everything else.
#include "cuda/max_pool2d.cuh"
#include "cuda/max_pool2d.h"
#include "cuda/pack.cuh"

namespace convkit::cuda {
namespace {

template <typename Tap, int Lanes>
struct alignas(Lanes * sizeof(Tap) < 16 ? Lanes * sizeof(Tap) : 16) TapPack {
  Tap lane[Lanes];
};

template <typename T, typename Tap>
__global__ void forward_kernel(MaxPool2d<T, Tap> pool, int64_t count) {
  const Pool2dShape& s = pool.shape;
  for_each_index(count, [&](int64_t i) {
    const Index4d at = index_4d(i, s.c, s.oh, s.ow, pool.channels_last);
    const T* x = pool.input.data + at.n * pool.input.n + at.c * pool.input.c;
    const Winner<T> winner = max_of_window<T>(
        s, at, pool.channels_last, [&](int64_t h, int64_t w) { return x[h * pool.input.h + w * pool.input.w]; });
    pool.output.data[i] = winner.value;
    if (pool.taps) pool.taps[i] = winner.template stored_tap<Tap>(pool.has_relu);
  });
}

// channels_last, all pointers and channels in whole packs. `count` packs.
template <typename T, typename Tap>
__global__ void forward_channels_last_kernel(MaxPool2d<T, Tap> pool, int64_t count) {
  constexpr int kLanes = Pack<T>::kLanes;
  const Pool2dShape& s = pool.shape;
  for_each_index(count, [&](int64_t index) {
    Index4d at = index_4d(index, s.c / kLanes, s.oh, s.ow, true);
    at.c *= kLanes;
    const WindowRange rows = window_h(s, at.h), columns = window_w(s, at.w);
    const T* x = pool.input.data + at.n * pool.input.n + at.c + (at.h * s.stride_h - s.pad_h) * pool.input.h +
                 (at.w * s.stride_w - s.pad_w) * pool.input.w;
    Winner<T> winner[kLanes];
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      for (int64_t j = columns.begin; j < columns.end; ++j) {
        const T* from = x + i * s.dilation_h * pool.input.h + j * s.dilation_w * pool.input.w;
        const Pack<T> pack = *reinterpret_cast<const Pack<T>*>(from);
#pragma unroll
        for (int l = 0; l < kLanes; ++l) winner[l].offer(pack.lane[l], i * s.kw + j);
      }
    }
    Pack<T> values;
    TapPack<Tap, kLanes> taps;
#pragma unroll
    for (int l = 0; l < kLanes; ++l) {
      if (!winner[l].found) winner[l].tap = tap_of_none<T>(s, at, true);
      values.lane[l] = winner[l].value;
      taps.lane[l] = winner[l].template stored_tap<Tap>(pool.has_relu);
    }
    reinterpret_cast<Pack<T>*>(pool.output.data)[index] = values;
    if (pool.taps) reinterpret_cast<TapPack<Tap, kLanes>*>(pool.taps)[index] = taps;
  });
}

// Contiguous planes that windows of 2x2 tile, rows in whole packs: a thread takes a pack of two rows.
template <typename T>
__global__ void forward_tiled_kernel(MaxPool2d<T, uint8_t> pool, int64_t count) {
  constexpr int kLanes = Pack<T>::kLanes, kWindows = kLanes / 2;
  const Pool2dShape& s = pool.shape;
  const int64_t packs = s.iw / kLanes;  // of a row
  for_each_index(count, [&](int64_t index) {
    int64_t column = index;
    const int64_t row = divide(column, packs);  // of outputs, over all planes
    const auto* upper = reinterpret_cast<const Pack<T>*>(pool.input.data) + 2 * row * packs + column;
    const Pack<T> top = upper[0], bottom = upper[packs];
    struct alignas(8) Values {
      T lane[kWindows];
    } values;
    TapPack<uint8_t, kWindows> taps;
#pragma unroll
    for (int l = 0; l < kWindows; ++l) {
      Winner<T> winner;
      winner.tap = 0;
      winner.offer(top.lane[2 * l], 0);
      winner.offer(top.lane[2 * l + 1], 1);
      winner.offer(bottom.lane[2 * l], 2);
      winner.offer(bottom.lane[2 * l + 1], 3);
      values.lane[l] = winner.value;
      taps.lane[l] = winner.template stored_tap<uint8_t>(pool.has_relu);
    }
    reinterpret_cast<Values*>(pool.output.data)[index] = values;
    if (pool.taps) reinterpret_cast<TapPack<uint8_t, kWindows>*>(pool.taps)[index] = taps;
  });
}

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

// The gradients of a pixel are added up in this type, as on the CPU.
template <typename T>
using GradientSum = std::conditional_t<std::is_same_v<T, double>, double, float>;

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

// Calls body(i, h, w) for every window of the dense taps with the position of its winner; h = -1: it has none.
template <typename Tap, typename Body>
__device__ void for_each_winner(const Pool2dShape& s, const View4d<const Tap>& taps, bool channels_last, int64_t count,
                                const Body& body) {
  for_each_index(count, [&](int64_t index) {
    const Index4d at = index_4d(index, s.c, s.oh, s.ow, channels_last);
    const int64_t tap = static_cast<int64_t>(element(taps, at));
    const bool is_one = tap >= 0 && tap < s.kh * s.kw;
    const int64_t h = at.h * s.stride_h - s.pad_h + tap / s.kw * s.dilation_h;
    body(at, is_one ? h : -1, at.w * s.stride_w - s.pad_w + tap % s.kw * s.dilation_w);
  });
}

template <typename Tap>
__global__ void indices_kernel(Pool2dShape s, View4d<const Tap> taps, View4d<int64_t> indices, int64_t count) {
  for_each_winner(s, taps, indices.c == 1, count,
                  [&](const Index4d& at, int64_t h, int64_t w) { element(indices, at) = h < 0 ? 0 : h * s.iw + w; });
}

template <typename T, typename Tap>
__global__ void gather_kernel(Pool2dShape s, View4d<const T> input, View4d<const Tap> taps, View4d<T> output,
                              int64_t count) {
  for_each_winner(s, taps, output.c == 1, count, [&](const Index4d& at, int64_t h, int64_t w) {
    const bool inside = h >= 0 && h < s.ih && w >= 0 && w < s.iw;
    element(output, at) = inside ? element(input, {at.n, at.c, h, w}) : T(0);
  });
}

int64_t outputs(const Pool2dShape& s) { return s.n * s.c * s.oh * s.ow; }

// Whether 2x2 windows tile planes whose rows are whole packs.
template <typename T>
bool are_tiles(const Pool2dShape& s) {
  return s.kh == 2 && s.kw == 2 && s.stride_h == 2 && s.stride_w == 2 && s.pad_h == 0 && s.pad_w == 0 &&
         s.dilation_h == 1 && s.dilation_w == 1 && s.ih == 2 * s.oh && s.iw == 2 * s.ow && s.iw % Pack<T>::kLanes == 0;
}

}  // namespace

template <typename T, typename Tap>
int launch_max_pool2d(const MaxPool2d<T, Tap>& pool, void* stream) {
  const Pool2dShape& s = pool.shape;
  const View4d<const T>& x = pool.input;
  constexpr int kLanes = Pack<T>::kLanes;
  if constexpr (kLanes > 1) {
    const bool whole = x.n % kLanes == 0 && x.h % kLanes == 0 && x.w % kLanes == 0 && s.c % kLanes == 0;
    if (pool.channels_last && x.c == 1 && whole && are_aligned(x.data, pool.output.data, pool.taps)) {
      const int64_t packs = outputs(s) / kLanes;
      return launch(forward_channels_last_kernel<T, Tap>, {blocks_for(packs), kThreads}, stream, pool, packs);
    }
    const bool dense = x.w == 1 && x.h == s.iw && x.c == s.ih * s.iw && (s.n == 1 || x.n == s.c * x.c);
    if constexpr (sizeof(Tap) == 1)
      if (!pool.channels_last && dense && are_tiles<T>(s) && are_aligned(x.data, pool.output.data, pool.taps)) {
        const int64_t packs = s.n * s.c * s.oh * (s.iw / kLanes);
        return launch(forward_tiled_kernel<T>, {blocks_for(packs), kThreads}, stream, pool, packs);
      }
  }
  return launch(forward_kernel<T, Tap>, {blocks_for(outputs(s)), kThreads}, stream, pool, outputs(s));
}

template <typename T, typename Tap>
int launch_max_pool2d_backward(const MaxPool2dBackward<T, Tap>& pool, void* stream) {
  const Pool2dShape& s = pool.shape;
  constexpr int kLanes = Pack<T>::kLanes;
  const int64_t count = s.n * s.c * s.ih * s.iw;
  const bool aligned = are_aligned(pool.grad_output.data, pool.taps.data, pool.grad_input.data);
  if (pool.channels_last && s.c % kLanes == 0 && aligned)
    return launch(backward_channels_last_kernel<T, Tap>, {blocks_for(count / kLanes), kThreads}, stream, pool,
                  count / kLanes);
  if constexpr (sizeof(Tap) == 1)
    if (!pool.channels_last && aligned && are_tiles<T>(s)) {
      const int64_t packs = s.n * s.c * s.oh * (s.iw / kLanes);
      return launch(backward_tiled_kernel<T>, {blocks_for(packs), kThreads}, stream, pool, packs);
    }
  return launch(backward_kernel<T, Tap>, {blocks_for(count), kThreads}, stream, pool, count);
}

template <typename Tap>
int launch_max_pool2d_indices(const Pool2dShape& s, const View4d<const Tap>& taps, const View4d<int64_t>& indices,
                              void* stream) {
  return launch(indices_kernel<Tap>, {blocks_for(outputs(s)), kThreads}, stream, s, taps, indices, outputs(s));
}

template <typename T, typename Tap>
int launch_max_pool2d_gather(const Pool2dShape& s, const View4d<const T>& input, const View4d<const Tap>& taps,
                             const View4d<T>& output, void* stream) {
  return launch(gather_kernel<T, Tap>, {blocks_for(outputs(s)), kThreads}, stream, s, input, taps, output, outputs(s));
}

#define CONVKIT_INSTANTIATE(T)                                                     \
  template int launch_max_pool2d<T, uint8_t>(const MaxPool2d<T, uint8_t>&, void*); \
  template int launch_max_pool2d<T, int32_t>(const MaxPool2d<T, int32_t>&, void*);
CONVKIT_INSTANTIATE(uint8_t)
CONVKIT_INSTANTIATE(int8_t)
CONVKIT_INSTANTIATE(int16_t)
CONVKIT_INSTANTIATE(int32_t)
CONVKIT_INSTANTIATE(int64_t)
CONVKIT_INSTANTIATE(Half)
CONVKIT_INSTANTIATE(BFloat16)
CONVKIT_INSTANTIATE(float)
CONVKIT_INSTANTIATE(double)

#define CONVKIT_INSTANTIATE_GRADIENT(T, TAP)                                                                          \
  template int launch_max_pool2d_backward<T, TAP>(const MaxPool2dBackward<T, TAP>&, void*);                           \
  template int launch_max_pool2d_gather<T, TAP>(const Pool2dShape&, const View4d<const T>&, const View4d<const TAP>&, \
                                                const View4d<T>&, void*);
CONVKIT_INSTANTIATE_GRADIENT(Half, uint8_t)
CONVKIT_INSTANTIATE_GRADIENT(Half, int32_t)
CONVKIT_INSTANTIATE_GRADIENT(BFloat16, uint8_t)
CONVKIT_INSTANTIATE_GRADIENT(BFloat16, int32_t)
CONVKIT_INSTANTIATE_GRADIENT(float, uint8_t)
CONVKIT_INSTANTIATE_GRADIENT(float, int32_t)
CONVKIT_INSTANTIATE_GRADIENT(double, uint8_t)
CONVKIT_INSTANTIATE_GRADIENT(double, int32_t)

template int launch_max_pool2d_indices<uint8_t>(const Pool2dShape&, const View4d<const uint8_t>&,
                                                const View4d<int64_t>&, void*);
template int launch_max_pool2d_indices<int32_t>(const Pool2dShape&, const View4d<const int32_t>&,
                                                const View4d<int64_t>&, void*);

}  // namespace convkit::cuda
