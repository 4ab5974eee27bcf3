// Max-pooling. Bound by bandwidth: 16 bytes of channels a thread in channels_last, of two rows where windows tile the
// plane by 2x2; a number a thread for everything else.
#include "cuda/max_pool2d.cuh"
#include "cuda/max_pool2d.h"

namespace convkit::cuda {
namespace {

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
      if (winner[l].tap < 0) winner[l].tap = static_cast<int>(tap_of_none<T>(s, at, true));
      values.lane[l] = winner[l].value;
      taps.lane[l] = winner[l].template stored_tap<Tap>(pool.has_relu);
    }
    reinterpret_cast<Pack<T>*>(pool.output.data)[index] = values;
    if (pool.taps) reinterpret_cast<TapPack<Tap, kLanes>*>(pool.taps)[index] = taps;
  });
}

// The same of a square window of K, whose packs are all under way at once, in 32-bit arithmetic.
template <typename T, int K>
__global__ void __launch_bounds__(kThreads, 2)
    forward_channels_last_square_kernel(MaxPool2d<T, uint8_t> pool, int64_t count) {
  constexpr int kLanes = Pack<T>::kLanes;
  const Pool2dShape& s = pool.shape;
  const int ih = static_cast<int>(s.ih), iw = static_cast<int>(s.iw), stride = static_cast<int>(s.stride_h);
  for_each_index(count, [&](int64_t index) {
    Index4d at = index_4d(index, s.c / kLanes, s.oh, s.ow, true);
    at.c *= kLanes;
    const int h0 = static_cast<int>(at.h) * stride - static_cast<int>(s.pad_h);
    const int w0 = static_cast<int>(at.w) * stride - static_cast<int>(s.pad_w);
    const T* x = pool.input.data + at.n * pool.input.n + at.c + h0 * pool.input.h + w0 * pool.input.w;
    Pack<T> packs[K][K];
#pragma unroll
    for (int i = 0; i < K; ++i)
#pragma unroll
      for (int j = 0; j < K; ++j)
        if (is_below(h0 + i, ih) && is_below(w0 + j, iw))
          packs[i][j] = *reinterpret_cast<const Pack<T>*>(x + i * pool.input.h + j * pool.input.w);
        else
          packs[i][j] = lowest_pack<T>();
    Pack<T> values;
    TapPack<uint8_t, kLanes> taps;
#pragma unroll
    for (int l = 0; l < kLanes; ++l) {
      Winner<T> winner;
#pragma unroll
      for (int i = 0; i < K; ++i)
#pragma unroll
        for (int j = 0; j < K; ++j) winner.offer(packs[i][j].lane[l], i * K + j);
      if (pool.taps && winner.tap < 0) winner.tap = static_cast<int>(tap_of_none<T>(s, at, true));
      values.lane[l] = winner.value;
      taps.lane[l] = winner.template stored_tap<uint8_t>(pool.has_relu);
    }
    reinterpret_cast<Pack<T>*>(pool.output.data)[index] = values;
    if (pool.taps) reinterpret_cast<TapPack<uint8_t, kLanes>*>(pool.taps)[index] = taps;
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

// Contiguous planes and a square window of K, in 32-bit arithmetic.
template <typename T, int K>
__global__ void forward_planes_kernel(MaxPool2d<T, uint8_t> pool, int64_t count) {
  const Pool2dShape& s = pool.shape;
  const int ih = static_cast<int>(s.ih), iw = static_cast<int>(s.iw), stride = static_cast<int>(s.stride_h);
  for_each_index(count, [&](int64_t index) {
    int64_t column = index, row = divide(column, s.ow);
    const int64_t plane = divide(row, s.oh);
    const int h0 = static_cast<int>(row) * stride - static_cast<int>(s.pad_h);
    const int w0 = static_cast<int>(column) * stride - static_cast<int>(s.pad_w);
    const T* x = pool.input.data + plane * s.ih * s.iw;
    Winner<T> winner;
    int first = -1;  // tap inside the image
#pragma unroll
    for (int i = 0; i < K; ++i) {
#pragma unroll
      for (int j = 0; j < K; ++j) {
        const int h = h0 + i, w = w0 + j;
        if (h < 0 || h >= ih || w < 0 || w >= iw) continue;
        if (first < 0) first = i * K + j;
        winner.offer(x[h * iw + w], i * K + j);
      }
    }
    if (winner.tap < 0) winner.tap = first;
    pool.output.data[index] = winner.value;
    if (pool.taps) pool.taps[index] = winner.template stored_tap<uint8_t>(pool.has_relu);
  });
}

// The same of 3x3 windows two apart whose padding is at most one, with rows in whole packs: a thread takes four
// outputs, of which eight columns are packs.
template <typename T, int Pad>
__global__ void __launch_bounds__(kThreads, 2)
    forward_strips_kernel(MaxPool2d<T, uint8_t> pool, int strips, int64_t count) {
  constexpr int K = 3, kStrip = 4, kColumns = 2 * kStrip, kLanes = min(Pack<T>::kLanes, kColumns);
  struct alignas(kLanes * sizeof(T)) Lanes {
    T lane[kLanes];
  };
  const Pool2dShape& s = pool.shape;
  const int ih = static_cast<int>(s.ih), iw = static_cast<int>(s.iw), ow = static_cast<int>(s.ow);
  for_each_index(count, [&](int64_t index) {
    int64_t strip = index, row = divide(strip, strips);  // of outputs, over all planes
    const int64_t output = row * s.ow + strip * kStrip, plane = divide(row, s.oh);
    const int h0 = 2 * static_cast<int>(row) - Pad, w0 = static_cast<int>(strip) * kColumns;
    const T* x = pool.input.data + plane * s.ih * s.iw + w0;
    T column[K][kColumns + 1];  // from w0 - Pad on
#pragma unroll
    for (int i = 0; i < K; ++i) {
      const T* from = x + (h0 + i) * iw;
      const bool inside = is_below(h0 + i, ih);
#pragma unroll
      for (int j = 0; j < kColumns; j += kLanes) {
        Lanes lanes;
#pragma unroll
        for (T& lane : lanes.lane) lane = lowest<T>();
        if (inside && w0 + j < iw) lanes = *reinterpret_cast<const Lanes*>(from + j);
#pragma unroll
        for (int l = 0; l < kLanes; ++l) column[i][Pad + j + l] = lanes.lane[l];
      }
      constexpr int kOdd = Pad ? -1 : kColumns;  // the one that is in no pack
      column[i][Pad ? 0 : kColumns] = inside && is_below(w0 + kOdd, iw) ? from[kOdd] : lowest<T>();
    }
    Lanes4<T> values;
    TapPack<uint8_t, kStrip> taps;
#pragma unroll
    for (int o = 0; o < kStrip; ++o) {
      Winner<T> winner;
#pragma unroll
      for (int i = 0; i < K; ++i)
#pragma unroll
        for (int j = 0; j < K; ++j) winner.offer(column[i][2 * o + j], i * K + j);
      if (winner.tap < 0) winner.tap = (h0 < 0 ? K : 0) + (w0 + 2 * o < Pad ? 1 : 0);  // the first inside the image
      values.lane[o] = winner.value;
      taps.lane[o] = winner.template stored_tap<uint8_t>(pool.has_relu);
    }
    if (ow % kStrip == 0) {
      *reinterpret_cast<Lanes4<T>*>(pool.output.data + output) = values;
      if (pool.taps) *reinterpret_cast<TapPack<uint8_t, kStrip>*>(pool.taps + output) = taps;
      return;
    }
    const int left = ow - static_cast<int>(strip) * kStrip;
    for (int o = 0; o < kStrip && o < left; ++o) {
      pool.output.data[output + o] = values.lane[o];
      if (pool.taps) pool.taps[output + o] = taps.lane[o];
    }
  });
}

template <typename T>
int launch_strips(const MaxPool2d<T, uint8_t>& pool, void* stream) {
  const Pool2dShape& s = pool.shape;
  const auto strips = static_cast<int>(ceil_div(s.ow, 4));
  const int64_t count = s.n * s.c * s.oh * strips;
  const auto kernel = s.pad_h ? forward_strips_kernel<T, 1> : forward_strips_kernel<T, 0>;
  return launch(kernel, {blocks_for(count), kThreads}, stream, pool, strips, count);
}

int64_t outputs(const Pool2dShape& s) { return s.n * s.c * s.oh * s.ow; }

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
      if constexpr (sizeof(Tap) == 1 && !std::is_integral_v<T>) {  // whose packs have too many lanes for registers
        if (are_small_squares(s) && (s.kh == 2 || s.kh == 3))
          return launch(
              s.kh == 2 ? forward_channels_last_square_kernel<T, 2> : forward_channels_last_square_kernel<T, 3>,
              {blocks_for(packs), kThreads}, stream, pool, packs);
      }
      return launch(forward_channels_last_kernel<T, Tap>, {blocks_for(packs), kThreads}, stream, pool, packs);
    }
    const bool dense = x.w == 1 && x.h == s.iw && x.c == s.ih * s.iw && (s.n == 1 || x.n == s.c * x.c);
    if constexpr (sizeof(Tap) == 1) {
      if (!pool.channels_last && dense && are_tiles<T>(s) && are_aligned(x.data, pool.output.data, pool.taps)) {
        const int64_t packs = s.n * s.c * s.oh * (s.iw / kLanes);
        return launch(forward_tiled_kernel<T>, {blocks_for(packs), kThreads}, stream, pool, packs);
      }
      if (!pool.channels_last && dense && are_strips<T>(s) && are_aligned(x.data, pool.output.data, pool.taps))
        return launch_strips(pool, stream);
      if (!pool.channels_last && dense && are_small_squares(s) && (s.kh == 2 || s.kh == 3))
        return launch(s.kh == 2 ? forward_planes_kernel<T, 2> : forward_planes_kernel<T, 3>,
                      {blocks_for(outputs(s)), kThreads}, stream, pool, outputs(s));
    }
  }
  return launch(forward_kernel<T, Tap>, {blocks_for(outputs(s)), kThreads}, stream, pool, outputs(s));
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

}  // namespace convkit::cuda
