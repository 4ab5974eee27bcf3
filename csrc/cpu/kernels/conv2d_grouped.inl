// Convolution of groups of few channels: a group alone would leave most lanes of a vector, or most rows of a tile,
// empty.
//
// The lanes of a vector are the output channels of several groups. A task packs its input band so that a lane finds the
// channels of its own group (GroupedInput): scalars are broadcast by the load, and a shuffle within every four lanes
// costs nothing beside multiply-adds, unlike one across the vector. Products are summed in the order [kh, ic, kw] by
// every tile: the same bits for a pixel wherever it lies.
#pragma once

#include "cpu/kernels/conv2d_grouped_pack.inl"

namespace convkit {
namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kGroupedPixels = 14;  // of a register tile
#else
constexpr int kGroupedPixels = 10;
#endif

// Floats from a packed channel, or four of them, to the next.
template <GroupedInput Input, int Channels>
constexpr int kGroupedStep = Input == GroupedInput::kScalars ? Channels
                             : Input == GroupedInput::kFours ? kLanes
                                                             : Channels * kLanes;

// Channel K from there on.
template <GroupedInput Input, int K>
inline Vec grouped_channel(const float* x) {
  if constexpr (Input == GroupedInput::kScalars) return broadcast(x[K]);
  if constexpr (Input == GroupedInput::kFours) return splat_in_fours<K>(load(x));
  return load(x + K * kLanes);
}

// Neighbouring pixels of an output row.
struct GroupedTile {
  const float* input;               // under the first tap of the window of the first pixel
  int64_t input_h, input_w, pixel;  // strides of a tap and of an output pixel
  int64_t kh, kw, ics;
  const float* weight;  // [kh, ic, kw, lanes]
  int64_t weight_h;     // from one row of the window to the next
  Vec bias;
  Activation activation;
  float* output;
  int64_t output_pixel, ocs;
};

// sum += the products of channel K under a row of the window. Stride: of a row of three neighbouring taps, for which a
// vector serves all taps that meet it; 0: any row.
template <int Stride, GroupedInput Input, int K, int Pixels>
inline void add_grouped_row(const float* row, const float* weight, const GroupedTile& tile, Vec (&sum)[Pixels]) {
  if constexpr (Stride) {
    const Vec w[3] = {load(weight), load(weight + kLanes), load(weight + 2 * kLanes)};
#pragma GCC unroll 32
    for (int col = 0; col < (Pixels - 1) * Stride + 3; ++col) {
      const Vec value = grouped_channel<Input, K>(row + col * tile.input_w);
#pragma GCC unroll 16
      for (int pixel = 0; pixel < Pixels; ++pixel) {
        const int tap = col - pixel * Stride;
        if (tap >= 0 && tap < 3) sum[pixel] += value * w[tap];
      }
    }
  } else {
    for (int64_t j = 0; j < tile.kw; ++j, row += tile.input_w) {
      const Vec w = load(weight + j * kLanes);
#pragma GCC unroll 16
      for (int pixel = 0; pixel < Pixels; ++pixel)
        sum[pixel] += grouped_channel<Input, K>(row + pixel * tile.pixel) * w;
    }
  }
}

// `begin` and `end`: of the pixels that are stored.
template <int Pixels>
inline void store_grouped(const GroupedTile& tile, Vec (&sum)[Pixels], int64_t begin, int64_t end) {
#pragma GCC unroll 16
  for (int pixel = 0; pixel < Pixels; ++pixel) {
    if (pixel < begin || pixel >= end) continue;
    Vec value = sum[pixel] + tile.bias;
    value = activate(tile.activation, value);
    float* output = tile.output + (pixel - begin) * tile.output_pixel;
    if (tile.ocs == kLanes)
      store_far(output, value);
    else
      store_first(output, value, tile.ocs);
  }
}

template <int Stride, GroupedInput Input, int Pixels>
void grouped_tile(const GroupedTile& t) {
  const GroupedTile tile = t;  // a copy, which no store can change: its members stay in registers
  constexpr int kChannels = Input == GroupedInput::kFours ? 4 : 1;
  Vec sum[Pixels] = {};
  const int64_t step = tile.kw * kLanes;
  for (int64_t i = 0; i < tile.kh; ++i) {
    const float *row = tile.input + i * tile.input_h, *weight = tile.weight + i * tile.weight_h;
    for (int64_t k = 0; k < tile.ics;
         k += kChannels, row += kGroupedStep<Input, kChannels>, weight += kChannels * step) {
      add_grouped_row<Stride, Input, 0>(row, weight, tile, sum);
      if constexpr (kChannels == 4) {
        add_grouped_row<Stride, Input, 1>(row, weight + step, tile, sum);
        add_grouped_row<Stride, Input, 2>(row, weight + 2 * step, tile, sum);
        add_grouped_row<Stride, Input, 3>(row, weight + 3 * step, tile, sum);
      }
    }
  }
  store_grouped(tile, sum, 0, Pixels);
}

typedef void GroupedTileFunction(const GroupedTile&);

struct GroupedTiles {
  GroupedTileFunction* of[3][kGroupedPixels];  // by stride of three taps, pixels - 1
};

template <GroupedInput Input, int... Pixel>
constexpr GroupedTiles make_grouped_tiles(std::integer_sequence<int, Pixel...>) {
  return {{{grouped_tile<0, Input, Pixel + 1>...},
           {grouped_tile<1, Input, Pixel + 1>...},
           {grouped_tile<2, Input, Pixel + 1>...}}};
}

constexpr auto kAllGroupedPixels = std::make_integer_sequence<int, kGroupedPixels>{};
constexpr GroupedTiles kGroupedTiles[3] = {make_grouped_tiles<GroupedInput::kScalars>(kAllGroupedPixels),
                                           make_grouped_tiles<GroupedInput::kFours>(kAllGroupedPixels),
                                           make_grouped_tiles<GroupedInput::kVectors>(kAllGroupedPixels)};

// Where a task's sums go: straight into a channels_last output, or into scratch [rows, cols, lanes].
struct GroupedSums {
  bool in_place;
  float *origin, *data;
  int64_t row, pixel;

  GroupedSums(const View4d<float>& y, const GroupedTask& t, int64_t oc, float* scratch)
      : in_place(y.c == 1),
        origin(y.data + t.n * y.n + oc * y.c + t.row * y.h + t.col * y.w),
        data(in_place ? origin : scratch),
        row(in_place ? y.h : t.cols * kLanes),
        pixel(in_place ? y.w : kLanes) {}

  void store_into(const View4d<float>& y, const GroupedTask& t, int64_t ocs) const {
    if (in_place) return;
    const bool one_row = y.h == t.cols * y.w;
    store_pixels(data, row, kLanes, y, origin, one_row ? 1 : t.rows, one_row ? t.rows * t.cols : t.cols, ocs);
  }
};

void conv2d_grouped_forward(const Conv2dGrouped& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dGroupedBlocking& b = conv.blocking;
  const GroupedTask t = decode(conv, task);
  const GroupedLanes lanes(s, b, t.vector);
  GroupedBand band = grouped_band(s, b, conv.input, t, lanes, scratch);
  if (s.kh * s.kw == 1) band.read_in_place();
  const GroupedSums sums(conv.output, t, lanes.oc, scratch + b.input_floats);
  const bool three = s.kw == 3 && s.dilation_w == 1 && s.stride_w <= 2;
  const auto& tiles = kGroupedTiles[static_cast<int>(b.input)].of[three ? s.stride_w : 0];
  GroupedTile tile;
  tile.input_h = s.dilation_h * band.row, tile.input_w = s.dilation_w * band.pixel;
  tile.pixel = s.stride_w * band.pixel;
  tile.kh = s.kh, tile.kw = s.kw, tile.ics = s.group_ic();
  tile.weight = grouped_weight(conv, t, lanes, scratch);
  tile.bias = conv.bias ? load_first(conv.bias + lanes.oc, lanes.ocs) : Vec{};
  tile.activation = conv.activation;
  tile.weight_h = s.group_ic() * s.kw * kLanes;
  tile.output_pixel = sums.pixel;
  tile.ocs = sums.in_place ? lanes.ocs : kLanes;
  for (int64_t r = 0; r < t.rows; ++r) {
    band.pack_before(r * s.stride_h + (s.kh - 1) * s.dilation_h + 1);
    tile.input = band.data + r * s.stride_h * band.row;
    tile.output = sums.data + r * sums.row;
    int64_t cols = t.cols;
    for (int64_t left = ceil_div(cols, kGroupedPixels); left > 0; --left) {
      const int64_t pixels = ceil_div(cols, left);
      tiles[pixels - 1](tile);
      tile.input += pixels * tile.pixel;
      tile.output += pixels * tile.output_pixel;
      cols -= pixels;
    }
  }
  sums.store_into(conv.output, t, lanes.ocs);
}

}  // namespace
}  // namespace convkit
