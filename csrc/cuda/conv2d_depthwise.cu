// Depthwise convolution and the gradient of its input. There is nothing to sum over but taps, so it is bound by
// bandwidth: each vector of input is loaded once per row of taps, for all pixels of a strip.
#include "cuda/conv2d_depthwise.cuh"
#include "cuda/conv2d_depthwise.h"
#include "cuda/intrinsics.cuh"
#include "cuda/relu.cuh"

namespace convkit::cuda {
namespace {

// The steps of `direction` along one dimension: forward, output o reads o * Stride - pad + k; transposed, input pixel i
// reads (i + pad - k) / Stride where that is whole. A strip of transposed pixels begins where i + pad is even.
enum class Direction { kForward, kTransposed };

struct Plane {
  int64_t height, width;  // of what is computed
  int64_t strips;         // of a row
  int first;              // where the first strip begins: 0 or -1
};

// sum[p] += the taps of one row of the window, for the pixels of a strip. Column m of what is read, at x + m * step, is
// pixel begin + m of a row of `size`.
template <int Lanes, int K, int Stride, Direction D, typename T>
__device__ void add_row(float (&sum)[kStrip][Lanes], const T* x, int64_t step, int begin, int size, const float* weight,
                        int weight_step) {
  constexpr bool kForward = D == Direction::kForward;
  constexpr int kColumns = kForward ? (kStrip - 1) * Stride + K : (kStrip - 1) / Stride + (K - 1) / Stride + 1;
  float w[K][Lanes];
#pragma unroll
  for (int k = 0; k < K; ++k) load_lanes(weight + k * weight_step, w[k]);
#pragma unroll
  for (int m = 0; m < kColumns; ++m) {
    if (begin + m < 0 || begin + m >= size) continue;
    float value[Lanes];
    load_lanes(x + m * step, value);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const int distance = kForward ? m - k : (m - (K - 1) / Stride) * Stride + k;
      const int p = kForward ? distance / Stride : distance;
      if (distance < 0 || (kForward && distance % Stride) || p >= kStrip) continue;
#pragma unroll
      for (int l = 0; l < Lanes; ++l) sum[p][l] += value[l] * w[k][l];
    }
  }
}

template <typename T, int Lanes, int K, int Stride, Direction D>
__global__ void depthwise_kernel(Conv2dDepthwise<T> conv, Plane plane, int columns) {
  constexpr bool kForward = D == Direction::kForward;
  const Conv2dShape& s = conv.shape;
  const DepthwiseThread<Lanes> thread(columns);
  const int channels = columns * Lanes;  // of the block
  float* weights = &shared_memory<float>();
  for (int i = threadIdx.x; i < K * K * channels; i += kThreads) {
    const int64_t channel = int64_t{blockIdx.x} * channels + i % channels;
    const int tap = i / channels;
    const T* w = conv.weight.data + channel * conv.weight.n + tap / K * conv.weight.h + tap % K * conv.weight.w;
    weights[i] = channel < s.oc ? float(*w) : 0.0f;
  }
  __syncthreads();
  if (thread.channel >= s.oc) return;

  const int64_t read_height = kForward ? s.ih : s.oh;
  const int read_width = static_cast<int>(kForward ? s.iw : s.ow), width = static_cast<int>(plane.width);
  const int64_t count = s.n * plane.height * plane.strips, step = int64_t{gridDim.y} * thread.rows;
  for (int64_t i = int64_t{blockIdx.y} * thread.rows + thread.row; i < count; i += step) {
    const Index4d at = index_4d(i, 1, plane.height, plane.strips, false);
    const int w0 = plane.first + static_cast<int>(at.w) * kStrip;
    const int pad = static_cast<int>(s.pad_left);
    const int begin = kForward ? w0 * Stride - pad : (w0 + pad) / Stride - (K - 1) / Stride;
    const T* image =
        conv.input.data + at.n * conv.input.n + thread.channel * conv.input.c + int64_t{begin} * conv.input.w;
    float sum[kStrip][Lanes] = {};
#pragma unroll 1
    for (int k = 0; k < K; ++k) {
      int64_t h = kForward ? at.h * Stride - s.pad_top + k : at.h + s.pad_top - k;
      if (h < 0 || (!kForward && h % Stride)) continue;
      if (!kForward) h /= Stride;
      if (h >= read_height) continue;
      add_row<Lanes, K, Stride, D>(sum, image + h * conv.input.h, conv.input.w, begin, read_width,
                                   weights + k * K * channels + thread.column * Lanes, channels);
    }
    T* row = conv.output.data + at.n * conv.output.n + at.h * conv.output.h + thread.channel * conv.output.c;
#pragma unroll
    for (int p = 0; p < kStrip; ++p) {
      if (w0 + p < 0 || w0 + p >= width) continue;
#pragma unroll
      for (int l = 0; l < Lanes; ++l) {
        if (conv.bias) sum[p][l] += float(conv.bias[(thread.channel + l) * conv.bias_stride]);
        if (conv.relu) sum[p][l] = relu(sum[p][l]);
      }
      store_lanes(row + (w0 + p) * conv.output.w, sum[p]);
    }
  }
}

template <typename T, int Lanes, int K, int Stride, Direction D>
int launch_kernel(const Conv2dDepthwise<T>& conv, void* stream) {
  constexpr bool kForward = D == Direction::kForward;
  const Conv2dShape& s = conv.shape;
  Plane plane{kForward ? s.oh : s.ih, kForward ? s.ow : s.iw, 0, 0};
  if (!kForward) plane.first = -static_cast<int>(s.pad_left % Stride);
  plane.strips = ceil_div(plane.width - plane.first, kStrip);
  const int columns = threads_along_channels(s.oc, Lanes, conv.output.c == 1);
  const int64_t rows = kThreads / columns, count = s.n * plane.height * plane.strips;
  constexpr int64_t kStripsPerThread = 4;  // enough to pay for loading the weights
  const auto blocks_y = static_cast<unsigned>(clamp(ceil_div(count, rows * kStripsPerThread), 1, 65535));
  const Grid grid{{static_cast<unsigned>(ceil_div(s.oc, columns * Lanes)), blocks_y},
                  kThreads,
                  sizeof(float) * K * K * columns * Lanes};
  return launch(depthwise_kernel<T, Lanes, K, Stride, D>, grid, stream, conv, plane, columns);
}

template <typename T, int K, int Stride, Direction D>
int launch_lanes(const Conv2dDepthwise<T>& conv, void* stream) {
  constexpr int kLanes = Pack<T>::kLanes;
  if (has_whole_lanes<kLanes>(conv.input, conv.shape.oc) && has_whole_lanes<kLanes>(conv.output, conv.shape.oc))
    return launch_kernel<T, kLanes, K, Stride, D>(conv, stream);
  return launch_kernel<T, 1, K, Stride, D>(conv, stream);
}

template <typename T, int Stride, Direction D>
int launch_window(const Conv2dDepthwise<T>& conv, void* stream) {
  switch (conv.shape.kh) {
    case 3:
      return launch_lanes<T, 3, Stride, D>(conv, stream);
    case 5:
      return launch_lanes<T, 5, Stride, D>(conv, stream);
    default:
      return launch_lanes<T, 7, Stride, D>(conv, stream);
  }
}

}  // namespace

template <typename T>
int launch_conv2d_depthwise(const Conv2dDepthwise<T>& conv, void* stream) {
  return conv.shape.stride_h == 1 ? launch_window<T, 1, Direction::kForward>(conv, stream)
                                  : launch_window<T, 2, Direction::kForward>(conv, stream);
}

template <typename T>
int launch_conv2d_depthwise_backward_input(const Conv2dDepthwise<T>& conv, void* stream) {
  if (conv.shape.stride_h == 2) return launch_window<T, 2, Direction::kTransposed>(conv, stream);
  // With stride 1, the convolution of grad_output with the turned window.
  Conv2dDepthwise<T> turned = conv;
  Conv2dShape& s = turned.shape;
  s.ih = conv.shape.oh, s.iw = conv.shape.ow, s.oh = conv.shape.ih, s.ow = conv.shape.iw;
  s.pad_top = s.kh - 1 - s.pad_top, s.pad_left = s.kw - 1 - s.pad_left;
  turned.weight.data += (s.kh - 1) * turned.weight.h + (s.kw - 1) * turned.weight.w;
  turned.weight.h *= -1, turned.weight.w *= -1;
  return launch_window<T, 1, Direction::kForward>(turned, stream);
}

#define CONVKIT_INSTANTIATE(T)                                               \
  template int launch_conv2d_depthwise<T>(const Conv2dDepthwise<T>&, void*); \
  template int launch_conv2d_depthwise_backward_input<T>(const Conv2dDepthwise<T>&, void*);
CONVKIT_INSTANTIATE(Half)
CONVKIT_INSTANTIATE(BFloat16)
CONVKIT_INSTANTIATE(float)

}  // namespace convkit::cuda
