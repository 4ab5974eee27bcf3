// Convolution with few channels in a group, and the gradient of its input. There is little to share between threads but
// the weights: they are in shared memory, and each thread reads its pixels where they lie.
#include "cuda/conv2d_grouped.cuh"
#include "cuda/conv2d_grouped.h"
#include "cuda/conv2d_pixel.cuh"
#include "cuda/intrinsics.cuh"
#include "cuda/relu.cuh"

namespace convkit::cuda {
namespace {

constexpr int kPixels = 4;   // of a thread
constexpr int kDepth = 256;  // products of a sum before it is added to the total; their weights are in shared memory

// Weights `begin` to `end` of the depth of neighbouring quads: [depth][columns][kQuad]; zeros where there is no filter.
template <bool Depthwise, typename T>
__device__ void load_weights(const ConvGemm<T>& p, int64_t first_quad, int columns, int begin, int end) {
  float* to = &shared_memory<float>();
  const GemmPhase& phase = p.phases[blockIdx.z];
  const int lanes = columns * kQuad, lane = static_cast<int>(threadIdx.x) % lanes, filter = lane % kQuad;
  const Quad quad = quad_at<Depthwise>(p, first_quad + lane / kQuad);
  const T* from = p.weight + phase.weight + quad.group * p.weight_group + quad.filter * p.weight_filter +
                  filter * (Depthwise ? p.weight_group : p.weight_filter);
  for (int k = begin + static_cast<int>(threadIdx.x) / lanes; k < end; k += kThreads / lanes) {
    const int tap = k / p.channels;
    const int64_t offset =
        k % p.channels * p.weight_channel + tap / phase.kw * phase.weight_h + tap % phase.kw * phase.weight_w;
    to[(k - begin) * lanes + lane] = filter < quad.count ? float(from[offset]) : 0.0f;
  }
}

// The sums of a quad at kPixels output pixels. Whole: the input has whole quads of channels.
template <typename T, bool Whole, bool Depthwise>
class QuadSums {
 public:
  __device__ QuadSums(const ConvGemm<T>& p, const GemmPhase& phase, const Quad& quad)
      : p_(p), phase_(phase), quad_(quad) {}

  // Pixels first, first + step, ..., of which there are `count`.
  __device__ void start(int64_t first, int step, int64_t count) {
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      const int64_t number = first + i * step;
      const Index4d at = index_4d(number, 1, phase_.oh, phase_.ow, false);
      const bool there = number < count;
      top_[i] = there ? static_cast<int>(at.h) * p_.stride_h + phase_.top : kNoPixel;
      left_[i] = static_cast<int>(at.w) * p_.stride_w + phase_.left;
      input_[i] = p_.input.data + at.n * p_.input.n + quad_.group * p_.channels * p_.input.c + top_[i] * p_.input.h +
                  left_[i] * p_.input.w;
      output_[i] = there ? phase_.output + at.n * p_.output.n + at.h * p_.output.h + at.w * p_.output.w : -1;
#pragma unroll
      for (int f = 0; f < kQuad; ++f) total_[i][f] = 0.0f;
    }
  }

  // Adds products `begin` to `end`, whose weights are at weights[0], weights[pitch], ...
  __device__ void add(const float* weights, int pitch, int begin, int end) {
    float sum[kPixels][kQuad] = {};
    int tap = begin / p_.channels, channel = begin % p_.channels;
    for (int k = begin; k < end; ++tap, channel = 0) {
      const int h = tap / phase_.kw * phase_.dilation_h, w = tap % phase_.kw * phase_.dilation_w;
      int64_t offset = h * p_.input.h + w * p_.input.w + channel * p_.input.c;
      bool inside[kPixels];
#pragma unroll
      for (int i = 0; i < kPixels; ++i)
        inside[i] = static_cast<unsigned>(top_[i] + h) < static_cast<unsigned>(p_.ih) &&
                    static_cast<unsigned>(left_[i] + w) < static_cast<unsigned>(p_.iw);
      const int stop = static_cast<int>(min(end, k + p_.channels - channel));
#pragma unroll 1
      for (; k < stop; k += kSteps, offset += kSteps * p_.input.c, weights += kSteps * pitch)
        add_products(offset, inside, weights, pitch, sum);
    }
#pragma unroll
    for (int i = 0; i < kPixels; ++i)
#pragma unroll
      for (int f = 0; f < kQuad; ++f) total_[i][f] += sum[i][f];
  }

  // Adds bias, applies ReLU and stores; `whole`: all four filters at once.
  __device__ void store(bool whole) const {
    const int64_t channel = quad_.group * p_.filters + quad_.filter;
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      if (output_[i] < 0) continue;
      T* output = p_.output.data + output_[i] + channel * p_.output.c;
      Four<T> results;
#pragma unroll
      for (int f = 0; f < kQuad; ++f) {
        float result = total_[i][f];
        if (p_.bias && f < quad_.count) result += float(p_.bias[channel + f]);
        results.lane[f] = T(p_.relu ? relu(result) : result);
      }
      if (whole) {
        *reinterpret_cast<Four<T>*>(output) = results;
      } else {
#pragma unroll
        for (int f = 0; f < kQuad; ++f)
          if (f < quad_.count) output[f * p_.output.c] = results.lane[f];
      }
    }
  }

 private:
  static constexpr int kSteps = Whole && !Depthwise ? kQuad : 1;  // products of a load
  static constexpr int kValues = Whole || Depthwise ? kQuad : 1;  // that it gives

  __device__ void add_products(int64_t offset, const bool (&inside)[kPixels], const float* weights, int pitch,
                               float (&sum)[kPixels][kQuad]) const {
    float x[kPixels][kValues] = {};
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      if (!inside[i]) continue;
      if constexpr (kValues == 1)
        x[i][0] = float(input_[i][offset]);
      else
        load_quad<Whole>(input_[i] + offset, p_.input.c, quad_.count, x[i]);
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const Four<float> w = *reinterpret_cast<const Four<float>*>(weights + step * pitch);
#pragma unroll
      for (int i = 0; i < kPixels; ++i)
#pragma unroll
        for (int f = 0; f < kQuad; ++f) sum[i][f] = fmaf(x[i][Depthwise ? f : step], w.lane[f], sum[i][f]);
    }
  }

  const ConvGemm<T>& p_;
  const GemmPhase& phase_;
  const Quad quad_;
  const T* input_[kPixels];
  int64_t output_[kPixels];
  int top_[kPixels], left_[kPixels];
  float total_[kPixels][kQuad];
};

struct GroupedCut {
  int columns, quad_tiles;
  bool whole_stores;
};

// Blocks: x = tiles of pixels times tiles of quads (fastest), z = phases.
template <typename T, bool Whole, bool Depthwise>
__global__ void __launch_bounds__(kThreads, 2) conv2d_grouped_kernel(const ConvGemm<T> p, const GroupedCut cut) {
  const GemmPhase phase = p.phases[blockIdx.z];
  const int columns = cut.columns;
  const int column = static_cast<int>(threadIdx.x) % columns, row = static_cast<int>(threadIdx.x) / columns;
  const int rows = kThreads / columns, tile = rows * kPixels, pitch = columns * kQuad;
  const int64_t first_quad = int64_t{blockIdx.x % cut.quad_tiles} * columns;
  const Quad quad = quad_at<Depthwise>(p, first_quad + column);
  const float* weights = &shared_memory<float>() + column * kQuad;
  const int depth = p.channels * phase.kh * phase.kw;
  const int64_t count = phase_rows(p, phase), step = int64_t{gridDim.x / cut.quad_tiles} * tile;
  QuadSums<T, Whole, Depthwise> sums(p, phase, quad);
  bool loaded = false;
  for (int64_t first = int64_t{blockIdx.x / cut.quad_tiles} * tile; first < count; first += step) {
    sums.start(first + row, rows, count);
    for (int begin = 0; begin < depth; begin += kDepth) {
      const int end = static_cast<int>(min(begin + kDepth, depth));
      if (!loaded || depth > kDepth) {
        __syncthreads();
        load_weights<Depthwise>(p, first_quad, columns, begin, end);
        __syncthreads();
        loaded = true;
      }
      if (quad.count) sums.add(weights, pitch, begin, end);
    }
    if (quad.count) sums.store(cut.whole_stores);
  }
}

template <typename T, bool Whole, bool Depthwise>
int launch_kernel(const ConvGemm<T>& p, void* stream) {
  constexpr int64_t kTiles = 4;  // of a block: enough to pay for loading the weights
  int64_t rows = 0, depth = 0;
  for (int i = 0; i < p.phase_count; ++i) {
    rows = max(rows, phase_rows(p, p.phases[i]));
    depth = max(depth, int64_t{p.channels} * p.phases[i].kh * p.phases[i].kw);
  }
  const int64_t quads = quad_count(p);
  const int columns = threads_along_quads(quads, p.output.c == 1);
  const int64_t quad_tiles = ceil_div(quads, columns), tiles = ceil_div(rows, kThreads / columns * kPixels);
  const int64_t along = clamp(ceil_div(tiles, kTiles), 1, max(kMaxBlocks / quad_tiles, 1));
  const GroupedCut cut{columns, static_cast<int>(quad_tiles),
                       has_whole_quads(p.output, Depthwise ? p.groups : p.filters)};
  const Grid grid{{static_cast<unsigned>(quad_tiles * along), 1, static_cast<unsigned>(p.phase_count)},
                  kThreads,
                  sizeof(float) * kQuad * columns * static_cast<size_t>(min(depth, kDepth))};
  return launch(conv2d_grouped_kernel<T, Whole, Depthwise>, grid, stream, p, cut);
}

}  // namespace

template <typename T>
int launch_conv2d_grouped(const ConvGemm<T>& p, void* stream) {
  if (is_depthwise(p))
    return has_whole_quads(p.input, p.groups) ? launch_kernel<T, true, true>(p, stream)
                                              : launch_kernel<T, false, true>(p, stream);
  return has_whole_quads(p.input, p.channels) ? launch_kernel<T, true, false>(p, stream)
                                              : launch_kernel<T, false, false>(p, stream);
}

template int launch_conv2d_grouped<Half>(const ConvGemm<Half>&, void*);
template int launch_conv2d_grouped<BFloat16>(const ConvGemm<BFloat16>&, void*);
template int launch_conv2d_grouped<float>(const ConvGemm<float>&, void*);

}  // namespace convkit::cuda
