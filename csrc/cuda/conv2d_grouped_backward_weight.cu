// The gradient of the weight of few channels in a group. A thread sums what four filters, four channels and three taps
// of a row have in common, over a part of all pixels; threads are added up by shuffles, warps in shared memory, and the
// parts by conv2d_sum_splits_kernel, always in the same order.
#include "cuda/conv2d_ffma.cuh"
#include "cuda/conv2d_gemm_launch.h"
#include "cuda/conv2d_grouped.cuh"
#include "cuda/conv2d_grouped.h"
#include "cuda/intrinsics.cuh"

namespace convkit::cuda {
namespace {

constexpr int kTaps = 3;
constexpr int kWarps = kThreads / 32;
constexpr int64_t kMostParts = 128;
constexpr int64_t kChain = 64;  // pixels that a thread sums up before they are added to the total

// Filters and the channels of their group (in a depthwise convolution their own).
struct Unit {
  Quad quad;
  int channel;  // the first one in the group
  int channels;
};

template <bool Depthwise, typename T>
__device__ Unit unit_at(const ConvGemm<T, float>& p, int64_t number) {
  int64_t channel = number;
  const int64_t quads = divide(channel, (p.channels + kQuad - 1) / kQuad);  // leaves the number within the quad
  const Quad quad = quad_at<Depthwise>(p, Depthwise ? number : quads);
  if constexpr (Depthwise) return {quad, 0, quad.count};
  const int first = static_cast<int>(channel) * kQuad;
  return {quad, first, static_cast<int>(min(p.channels - first, kQuad))};
}

// Three taps of a row of the window.
struct Taps {
  int r, s;  // the first

  template <typename T>
  __device__ Taps(const ConvGemm<T, float>& p, int number) {
    const int across = (p.phases[0].kw + kTaps - 1) / kTaps;
    r = number / across, s = number % across * kTaps;
  }
};

// How a block is cut; what a thread goes on by from pixel to pixel, as images, rows and columns.
struct GroupedCut {
  int columns, step_n, step_h, step_w;
  int chunks;  // of a part
};

// One pixel after another, all of them a step apart, without a division.
class PixelSteps {
 public:
  __device__ PixelSteps(const GemmPhase& phase, int64_t first) {
    const Index4d at = index_4d(first, 1, phase.oh, phase.ow, false);
    n = static_cast<int>(at.n), h = static_cast<int>(at.h), w = static_cast<int>(at.w);
  }

  __device__ void advance(const GemmPhase& phase, const GroupedCut& by) {
    n += by.step_n, h += by.step_h, w += by.step_w;
    if (w >= phase.ow) w -= phase.ow, ++h;
    if (h >= phase.oh) h -= phase.oh, ++n;
  }

  int n, h, w;
};

// What a thread reads: of pixel (0, 0), its filters' gradients and its channels' input, at its first tap.
template <typename T>
struct Source {
  const T *grad, *input;
  int filters, channels, top, left, taps;

  __device__ Source(const ConvGemm<T, float>& p, const Unit& unit, const Taps& at)
      : grad(p.grad_output.data + (unit.quad.group * p.filters + unit.quad.filter) * p.grad_output.c),
        input(p.input.data + (unit.quad.group * p.channels + unit.channel) * p.input.c),
        filters(unit.quad.count),
        channels(unit.channels),
        top(p.phases[0].top + at.r * p.phases[0].dilation_h),
        left(p.phases[0].left + at.s * p.phases[0].dilation_w),
        taps(p.phases[0].kw - at.s) {}
};

// sum[tap][filter][channel] += the products of a pixel's gradients with the pixels that the taps meet.
template <bool Whole, bool Depthwise, typename T, int Products>
__device__ void add_pixel(const ConvGemm<T, float>& p, const Source<T>& source, const PixelSteps& at,
                          float (&sum)[kTaps][kQuad][Products]) {
  const int top = at.h * p.stride_h + source.top, left = at.w * p.stride_w + source.left;
  if (top < 0 || top >= p.ih) return;
  float grad[kQuad];
  load_quad<Whole>(source.grad + at.n * p.grad_output.n + at.h * p.grad_output.h + at.w * p.grad_output.w,
                   p.grad_output.c, source.filters, grad);
  const T* row = source.input + at.n * p.input.n + top * p.input.h;
#pragma unroll
  for (int j = 0; j < kTaps; ++j) {
    const int64_t w = left + int64_t{j} * p.phases[0].dilation_w;
    if (j >= source.taps || w < 0 || w >= p.iw) continue;
    float x[kQuad];
    load_quad<Whole>(row + w * p.input.w, p.input.c, source.channels, x);
#pragma unroll
    for (int f = 0; f < kQuad; ++f)
#pragma unroll
      for (int c = 0; c < Products; ++c) sum[j][f][c] = fmaf(grad[f], x[Depthwise ? f : c], sum[j][f][c]);
  }
}

// The sums of all threads of a column, added up: in shared memory, [warp][tap, filter, channel][column].
template <int Products>
__device__ void reduce(float (&sum)[kTaps][kQuad][Products], int columns) {
  float* sums = &shared_memory<float>();
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  constexpr int kValues = kTaps * kQuad * Products;
#pragma unroll 1
  for (int bits = 16; bits >= columns; bits /= 2)
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      float& value = sum[i / (kQuad * Products)][i / Products % kQuad][i % Products];
      value += __shfl_xor_sync(kFullWarp, value, bits);
    }
  if (lane < columns)
#pragma unroll
    for (int i = 0; i < kValues; ++i)
      sums[(warp * kValues + i) * columns + lane] = sum[i / (kQuad * Products)][i / Products % kQuad][i % Products];
  __syncthreads();
}

// Stores a block's sums, or adds them to what it has stored before.
template <bool Depthwise, int Products, typename T>
__device__ void store(const ConvGemm<T, float>& p, int64_t first_unit, int columns, const Taps& taps, bool add) {
  const float* sums = &shared_memory<float>();
  const int values = kTaps * kQuad * Products * columns;
  for (int i = static_cast<int>(threadIdx.x); i < values; i += kThreads) {
    const int at = i / columns, c = at % Products, f = at / Products % kQuad, j = at / (Products * kQuad);
    const Unit unit = unit_at<Depthwise>(p, first_unit + i % columns);
    if (f >= unit.quad.count || taps.s + j >= p.phases[0].kw || (!Depthwise && c >= unit.channels)) continue;
    const int64_t filter = unit.quad.group * p.filters + unit.quad.filter + f;
    float& to = p.output.data[blockIdx.y * p.split_stride + filter * p.output.n + (unit.channel + c) * p.output.c +
                              taps.r * p.output.h + (taps.s + j) * p.output.w];
    float total = add ? to : 0.0f;
    for (int warp = 0; warp < kWarps; ++warp) total += sums[warp * values + i];
    to = total;
  }
  __syncthreads();  // the next sums may come
}

// Blocks: x = tiles of units times triples of taps (fastest), y = parts of the pixels.
template <typename T, bool Whole, bool Depthwise>
__global__ void __launch_bounds__(kThreads, 2)
    conv2d_grouped_backward_weight_kernel(const ConvGemm<T, float> p, const GroupedCut cut) {
  constexpr int kProducts = Depthwise ? 1 : kQuad;
  const GemmPhase& phase = p.phases[0];
  const int tap_tiles = phase.kh * ((phase.kw + kTaps - 1) / kTaps);
  for (int chunk = 0; chunk < cut.chunks; ++chunk) {
    const int columns = here(cut.columns);
    const Taps taps(p, static_cast<int>(blockIdx.x % tap_tiles));
    const int64_t first_unit = int64_t{blockIdx.x / tap_tiles} * columns;
    const Source<T> source(p, unit_at<Depthwise>(p, first_unit + threadIdx.x % columns), taps);
    const int64_t first = (int64_t{blockIdx.y} * cut.chunks + chunk) * p.chunk;
    const int64_t left = int64_t{p.n} * phase.oh * phase.ow - first;
    const int count = source.filters ? static_cast<int>(clamp(left, 0, p.chunk)) : 0;
    float sum[kTaps][kQuad][kProducts] = {};
    PixelSteps at(phase, first + threadIdx.x / columns);
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x) / columns; i < count; i += kThreads / columns, at.advance(phase, cut))
      add_pixel<Whole, Depthwise>(p, source, at, sum);
    reduce(sum, columns);
    store<Depthwise, kProducts>(p, first_unit, columns, taps, chunk > 0);
  }
}

template <typename T>
int64_t unit_count(const ConvGemm<T, float>& p) {
  return quad_count(p) * ceil_div(p.channels, kQuad);
}

template <typename T>
int columns_of(const ConvGemm<T, float>& p) {
  return threads_along_quads(unit_count(p), p.input.c == 1 && p.grad_output.c == 1);
}

template <typename T, bool Whole, bool Depthwise>
int launch_kernel(const ConvGemm<T, float>& p, void* stream) {
  constexpr int kValues = kTaps * kQuad * (Depthwise ? 1 : kQuad);
  const int columns = columns_of(p), rows = kThreads / columns;
  const GemmPhase& phase = p.phases[0];
  const int64_t part = split_pixels(int64_t{p.n} * phase.oh * phase.ow, p.splits, p.chunk);
  const GroupedCut cut{columns, rows / phase.ow / phase.oh, rows / phase.ow % phase.oh, rows % phase.ow,
                       static_cast<int>(max(part / p.chunk, 1))};  // of no pixels, zeros
  const int64_t taps = phase.kh * ceil_div(phase.kw, kTaps);
  const Grid grid{{static_cast<unsigned>(ceil_div(unit_count(p), columns) * taps), static_cast<unsigned>(p.splits)},
                  kThreads,
                  sizeof(float) * kWarps * kValues * columns};
  return launch(conv2d_grouped_backward_weight_kernel<T, Whole, Depthwise>, grid, stream, p, cut);
}

}  // namespace

template <typename T>
void cut_conv2d_grouped_backward_weight(ConvGemm<T, float>& p, int64_t output_elements) {
  // A chain a thread; more where that makes more parts than fill a GPU, or than there is memory for.
  const int64_t rows = kThreads / columns_of(p), pixels = int64_t{p.n} * p.phases[0].oh * p.phases[0].ow;
  const int64_t fitting = kSumsLimit / (output_elements * static_cast<int64_t>(sizeof(float)));
  p.chunk = static_cast<int32_t>(rows * kChain);
  p.splits = static_cast<int32_t>(clamp(ceil_div(pixels, p.chunk), 1, clamp(fitting, 1, kMostParts)));
}

template <typename T>
int launch_conv2d_grouped_backward_weight(const ConvGemm<T, float>& p, void* stream) {
  const bool depthwise = is_depthwise(p);
  const int64_t channels = depthwise ? p.groups : p.channels, filters = depthwise ? p.groups : p.filters;
  const bool whole = has_whole_quads(p.input, channels) && has_whole_quads(p.grad_output, filters);
  if (depthwise) return whole ? launch_kernel<T, true, true>(p, stream) : launch_kernel<T, false, true>(p, stream);
  return whole ? launch_kernel<T, true, false>(p, stream) : launch_kernel<T, false, false>(p, stream);
}

#define CONVKIT_INSTANTIATE(T)                                                       \
  template void cut_conv2d_grouped_backward_weight<T>(ConvGemm<T, float>&, int64_t); \
  template int launch_conv2d_grouped_backward_weight<T>(const ConvGemm<T, float>&, void*);
CONVKIT_INSTANTIATE(Half)
CONVKIT_INSTANTIATE(BFloat16)
CONVKIT_INSTANTIATE(float)

}  // namespace convkit::cuda
