// What taps say: the positions of the winners, and the values there.
#include "cuda/index.cuh"
#include "cuda/max_pool2d.h"

namespace convkit::cuda {
namespace {

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

}  // namespace

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

template int launch_max_pool2d_indices<uint8_t>(const Pool2dShape&, const View4d<const uint8_t>&,
                                                const View4d<int64_t>&, void*);
template int launch_max_pool2d_indices<int32_t>(const Pool2dShape&, const View4d<const int32_t>&,
                                                const View4d<int64_t>&, void*);

#define CONVKIT_INSTANTIATE(T, TAP)                                                                                   \
  template int launch_max_pool2d_gather<T, TAP>(const Pool2dShape&, const View4d<const T>&, const View4d<const TAP>&, \
                                                const View4d<T>&, void*);
CONVKIT_INSTANTIATE(Half, uint8_t)
CONVKIT_INSTANTIATE(Half, int32_t)
CONVKIT_INSTANTIATE(BFloat16, uint8_t)
CONVKIT_INSTANTIATE(BFloat16, int32_t)
CONVKIT_INSTANTIATE(float, uint8_t)
CONVKIT_INSTANTIATE(float, int32_t)
CONVKIT_INSTANTIATE(double, uint8_t)
CONVKIT_INSTANTIATE(double, int32_t)

}  // namespace convkit::cuda
