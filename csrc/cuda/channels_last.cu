// A copy of an image with the channels of a pixel together, for kernels that read them by vectors.
#include "common/half.h"
#include "common/int_math.h"
#include "cuda/channels_last.h"
#include "cuda/divide.cuh"
#include "cuda/intrinsics.cuh"
#include "cuda/launch.cuh"

namespace convkit::cuda {
namespace {

constexpr int kTile = 64;  // pixels and channels of a block
constexpr int kThreads = 256;

// Blocks: x = tiles of channels times tiles of an image's pixels (fastest) times images.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    channels_last_kernel(const ChannelsLast<T> p, int pixel_tiles, int channel_tiles) {
  constexpr int kLanes = 16 / static_cast<int>(sizeof(T));
  constexpr int kPitch = kTile + 4 / static_cast<int>(sizeof(T));  // the channels of a pixel lie in different banks
  auto& tile = shared_memory<T[kTile][kPitch]>();
  int64_t rest = blockIdx.x, image = divide(rest, int64_t{pixel_tiles} * channel_tiles);
  const int64_t first_channel = divide(rest, pixel_tiles) * kTile, first_pixel = rest * kTile;
  const int64_t pixels = p.h * p.w;
  int64_t column = first_pixel + threadIdx.x % kTile;
  const bool inside = column < pixels;
  const int64_t row = divide(column, p.w);
  const T* from = p.input.data + image * p.input.n + row * p.input.h + column * p.input.w;
  constexpr int kStep = kThreads / kTile;
  T loaded[kTile / kStep];  // all of them are under way at once
#pragma unroll
  for (int i = 0; i < kTile / kStep; ++i) {
    const int64_t channel = first_channel + threadIdx.x / kTile + i * kStep;
    loaded[i] = inside && channel < p.c ? from[channel * p.input.c] : T{};
  }
#pragma unroll
  for (int i = 0; i < kTile / kStep; ++i) tile[threadIdx.x / kTile + i * kStep][threadIdx.x % kTile] = loaded[i];
  __syncthreads();
  constexpr int kVectors = kTile / kLanes;  // of a pixel
  const int channel = threadIdx.x % kVectors * kLanes;
  uint4* const to = reinterpret_cast<uint4*>(p.output + (image * pixels + first_pixel) * p.c + first_channel + channel);
  const int64_t pitch = p.c / kLanes;  // vectors between pixels
  if (first_channel + channel >= p.c) return;
#pragma unroll
  for (int i = threadIdx.x / kVectors; i < kTile; i += kThreads / kVectors) {
    if (first_pixel + i >= pixels) return;
    unsigned words[4];
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      if constexpr (sizeof(T) == 4)
        words[word] = __float_as_uint(tile[channel + word][i]);
      else
        words[word] = tile[channel + 2 * word][i].bits | unsigned{tile[channel + 2 * word + 1][i].bits} << 16;
    }
    to[i * pitch] = {words[0], words[1], words[2], words[3]};
  }
}

}  // namespace

template <typename T>
int launch_channels_last(const ChannelsLast<T>& p, void* stream) {
  const int64_t pixel_tiles = ceil_div(p.h * p.w, kTile), channel_tiles = ceil_div(p.c, kTile);
  const int64_t blocks = pixel_tiles * channel_tiles * p.n;
  if (blocks == 0) return cudaSuccess;
  const Grid grid{{static_cast<unsigned>(blocks), 1, 1}, kThreads, kTile * (kTile + 4 / sizeof(T)) * sizeof(T)};
  return launch(channels_last_kernel<T>, grid, stream, p, static_cast<int>(pixel_tiles),
                static_cast<int>(channel_tiles));
}

template int launch_channels_last(const ChannelsLast<float>&, void*);
template int launch_channels_last(const ChannelsLast<Half>&, void*);
template int launch_channels_last(const ChannelsLast<BFloat16>&, void*);

}  // namespace convkit::cuda
