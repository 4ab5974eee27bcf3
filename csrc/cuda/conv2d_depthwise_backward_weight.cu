// The gradient of a depthwise weight. A block sums one row of taps over a part of all pixels, in registers; the rows of
// threads are then added up in shared memory and the parts by a second kernel, always in the same order.
#include "cuda/conv2d_depthwise.cuh"
#include "cuda/conv2d_depthwise.h"
#include "cuda/intrinsics.cuh"

namespace convkit::cuda {
namespace {

// sum[k] += the products of a strip of grad_output with the pixels that tap k meets. Column m of the input, at
// x + m * step, is pixel begin + m of a row of `size`.
template <int Lanes, int K, int Stride, typename T>
__device__ void add_products(float (&sum)[K][Lanes], const T* x, int64_t step, int begin, int size,
                             const float (&grad)[kStrip][Lanes]) {
  float product[K][Lanes] = {};  // of the strip: the sums get fewer, larger terms
#pragma unroll
  for (int m = 0; m < (kStrip - 1) * Stride + K; ++m) {
    if (begin + m < 0 || begin + m >= size) continue;
    float value[Lanes];
    load_lanes(x + m * step, value);
#pragma unroll
    for (int p = 0; p < kStrip; ++p) {
      const int k = m - p * Stride;
      if (k < 0 || k >= K) continue;
#pragma unroll
      for (int l = 0; l < Lanes; ++l) product[k][l] += value[l] * grad[p][l];
    }
  }
#pragma unroll
  for (int k = 0; k < K; ++k)
#pragma unroll
    for (int l = 0; l < Lanes; ++l) sum[k][l] += product[k][l];
}

template <typename T, int Lanes, int K, int Stride>
__global__ void backward_weight_kernel(Conv2dDepthwiseBackwardWeight<T> conv, int columns) {
  const Conv2dShape& s = conv.shape;
  const DepthwiseThread<Lanes> thread(columns);
  const int tap_row = blockIdx.z;
  const int64_t strips = (s.ow + kStrip - 1) / kStrip, count = s.n * s.oh * strips;
  const int64_t part = (count + gridDim.y - 1) / gridDim.y, end = min((blockIdx.y + 1) * part, count);
  float sum[K][Lanes] = {};
  for (int64_t i = blockIdx.y * part + thread.row; i < end && thread.channel < s.oc; i += thread.rows) {
    const Index4d at = index_4d(i, 1, s.oh, strips, false);
    const int64_t h = at.h * Stride - s.pad_top + tap_row;
    const int w0 = static_cast<int>(at.w) * kStrip, begin = w0 * Stride - static_cast<int>(s.pad_left);
    if (h < 0 || h >= s.ih) continue;
    const T* dy = conv.grad_output.data + at.n * conv.grad_output.n + at.h * conv.grad_output.h +
                  thread.channel * conv.grad_output.c;
    float grad[kStrip][Lanes] = {};
#pragma unroll
    for (int p = 0; p < kStrip; ++p)
      if (w0 + p < static_cast<int>(s.ow)) load_lanes(dy + (w0 + p) * conv.grad_output.w, grad[p]);
    const T* x =
        conv.input.data + at.n * conv.input.n + h * conv.input.h + thread.channel * conv.input.c + begin * conv.input.w;
    add_products<Lanes, K, Stride>(sum, x, conv.input.w, begin, static_cast<int>(s.iw), grad);
  }

  float* sums = &shared_memory<float>();  // [rows, columns * Lanes]
  const int channels = columns * Lanes;
#pragma unroll  // sum[k] stays in registers
  for (int k = 0; k < K; ++k) {
#pragma unroll
    for (int l = 0; l < Lanes; ++l) sums[thread.row * channels + thread.column * Lanes + l] = sum[k][l];
    __syncthreads();
    for (int c = threadIdx.x; c < channels; c += kThreads) {
      float total = 0;
      for (int row = 0; row < thread.rows; ++row) total += sums[row * channels + c];
      const int64_t channel = int64_t{blockIdx.x} * channels + c;
      if (channel < s.oc) conv.partial[((blockIdx.y * s.oc + channel) * K + tap_row) * K + k] = total;
    }
    __syncthreads();
  }
}

template <typename T>
__global__ void add_parts_kernel(Conv2dDepthwiseBackwardWeight<T> conv, int64_t count) {
  for_each_index(count, [&](int64_t i) {
    float total = 0;
    for (int64_t part = 0; part < conv.parts; ++part) total += conv.partial[part * count + i];
    element(conv.grad_weight, index_4d(i, 1, conv.shape.kh, conv.shape.kw, false)) = T(total);
  });
}

template <typename T, int Lanes, int K, int Stride>
int launch_kernel(const Conv2dDepthwiseBackwardWeight<T>& conv, void* stream) {
  const Conv2dShape& s = conv.shape;
  const int columns = threads_along_channels(s.oc, Lanes, conv.grad_output.c == 1);
  const Grid grid{{static_cast<unsigned>(ceil_div(s.oc, columns * Lanes)), static_cast<unsigned>(conv.parts), K},
                  kThreads,
                  sizeof(float) * kThreads * Lanes};
  const int error = launch(backward_weight_kernel<T, Lanes, K, Stride>, grid, stream, conv, columns);
  if (error != cudaSuccess) return error;
  const int64_t count = s.oc * K * K;
  return launch(add_parts_kernel<T>, {blocks_for(count), kThreads}, stream, conv, count);
}

template <typename T, int K, int Stride>
int launch_lanes(const Conv2dDepthwiseBackwardWeight<T>& conv, void* stream) {
  constexpr int kLanes = Pack<T>::kLanes;
  if (has_whole_lanes<kLanes>(conv.input, conv.shape.oc) && has_whole_lanes<kLanes>(conv.grad_output, conv.shape.oc))
    return launch_kernel<T, kLanes, K, Stride>(conv, stream);
  return launch_kernel<T, 1, K, Stride>(conv, stream);
}

template <typename T, int Stride>
int launch_window(const Conv2dDepthwiseBackwardWeight<T>& conv, void* stream) {
  switch (conv.shape.kh) {
    case 3:
      return launch_lanes<T, 3, Stride>(conv, stream);
    case 5:
      return launch_lanes<T, 5, Stride>(conv, stream);
    default:
      return launch_lanes<T, 7, Stride>(conv, stream);
  }
}

}  // namespace

int64_t conv2d_depthwise_parts(const Conv2dShape& s) {
  // A thread of a full row of channels sums some 64 strips; the workspace stays below 64 MiB.
  constexpr int64_t kStrips = 64 * kThreads / 32, kMostParts = 1024, kMostFloats = 1 << 24;
  const int64_t most = clamp(kMostFloats / (s.oc * s.kh * s.kw), 1, kMostParts);
  return clamp(s.n * s.oh * ceil_div(s.ow, kStrip) / kStrips, 1, most);
}

template <typename T>
int launch_conv2d_depthwise_backward_weight(const Conv2dDepthwiseBackwardWeight<T>& conv, void* stream) {
  return conv.shape.stride_h == 1 ? launch_window<T, 1>(conv, stream) : launch_window<T, 2>(conv, stream);
}

template int launch_conv2d_depthwise_backward_weight<Half>(const Conv2dDepthwiseBackwardWeight<Half>&, void*);
template int launch_conv2d_depthwise_backward_weight<BFloat16>(const Conv2dDepthwiseBackwardWeight<BFloat16>&, void*);
template int launch_conv2d_depthwise_backward_weight<float>(const Conv2dDepthwiseBackwardWeight<float>&, void*);

}  // namespace convkit::cuda
