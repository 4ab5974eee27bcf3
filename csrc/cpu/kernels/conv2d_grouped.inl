// Convolution of groups of few channels: a group alone would leave most lanes of a vector, or most rows of a tile,
// empty.
//
// The lanes of a vector are the output channels of several groups. A task packs its input band so that a lane finds the
// channels of its own group (GroupedInput): scalars are broadcast by the load, and a shuffle within every four lanes
// costs nothing beside multiply-adds, unlike one across the vector. Products are summed in the order [kh, ic, kw] by
// every tile: the same bits for a pixel wherever it lies.
#pragma once

#include "cpu/kernels/conv2d_grouped.h"
#include "cpu/kernels/pack.inl"

namespace convkit {
namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kGroupedPixels = 14;  // of a register tile
#else
constexpr int kGroupedPixels = 10;
#endif

// Output channels of one vector, and the input channels that they meet.
struct GroupedLanes {
  int64_t group, ic, oc;  // the first ones
  int64_t ics, ocs;
  int64_t vectors = 0;    // of a pixel that is packed by permutations
  IntVec index[kLanes];   // of each: which of `ics` its lanes have

  GroupedLanes(const Conv2dShape& s, const Conv2dGroupedBlocking& b, int64_t vector) {
    group = vector * b.vector_groups;
    const int64_t groups = min(b.vector_groups, s.groups - group);
    ic = group * s.group_ic(), oc = group * s.group_oc();
    ics = groups * s.group_ic(), ocs = groups * s.group_oc();
    const bool fours = b.input == GroupedInput::kFours;
    if (b.input == GroupedInput::kScalars || (fours && s.group_ic() == 4 && s.group_oc() == 4)) return;
    vectors = b.pixel_floats / kLanes;
    index[0] = IntVec{};
    for (int64_t lane = 0, first = 0; lane < ocs; first += s.group_ic())
      for (const int64_t end = lane + s.group_oc(); lane < end; ++lane)
        index[0][lane] = static_cast<int32_t>(first + (fours ? lane % 4 : 0));
    for (int64_t v = 1; v < vectors; ++v) index[v] = index[v - 1] + (fours ? 4 : 1);
  }
};

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
  bool relu;
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
    if (tile.relu) value = relu(value);
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
    for (int64_t k = 0; k < tile.ics; k += kChannels, row += kGroupedStep<Input, kChannels>, weight += kChannels * step) {
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

struct GroupedTask {
  int64_t n, vector, row, rows, col, cols;
};

GroupedTask decode(const Conv2dGrouped& conv, int64_t task) {
  const Conv2dShape& s = conv.shape;
  const Conv2dGroupedBlocking& b = conv.blocking;
  GroupedTask t;
  t.vector = task % b.vectors;  // fastest: neighbouring tasks read the same lines of a channels_last input
  task /= b.vectors;
  t.col = task % b.col_bands * b.cols;
  task /= b.col_bands;
  t.row = task % b.row_bands * b.rows;
  t.n = task / b.row_bands;
  t.rows = min(b.rows, s.oh - t.row);
  t.cols = min(b.cols, s.ow - t.col);
  return t;
}

// The input of a task, packed row by row as [band_h, band_w, pixel_floats].
class GroupedBand {
 public:
  const float* data;
  int64_t row, pixel;  // strides

  GroupedBand(const Conv2dGroupedBlocking& b, const View4d<const float>& x, int64_t n, Extent h, Extent w,
              const GroupedLanes& lanes, float* scratch)
      : data(scratch), row(w.count * b.pixel_floats), pixel(b.pixel_floats), x_(x), lanes_(lanes), scratch_(scratch),
        image_(x.data + n * x.n + lanes.ic * x.c), h_(h), w_(w) {}

  // If what it would pack lies so in memory.
  void read_in_place() {
    const bool inside = h_.start >= 0 && w_.start >= 0 && h_.start + h_.count <= h_.size &&
                        w_.start + w_.count <= w_.size;
    if (!inside || lanes_.vectors || x_.c != 1 || lanes_.ics != pixel) return;
    data = image_ + h_.start * x_.h + w_.start * x_.w;
    row = x_.h, pixel = x_.w;
    packed_ = h_.count;
  }

  // Packs the rows before `end` that are not packed yet.
  void pack_before(int64_t end) {
    if (packed_ >= end) return;
    float* to = scratch_ + packed_ * row;
    if (!lanes_.vectors)
      pack_band(x_, image_, {h_.start + packed_, end - packed_, h_.size}, w_, lanes_.ics, pixel, to);
    else
      for (int64_t i = packed_; i < end; ++i, to += row) pack_permuted(h_.start + i, to);
    packed_ = end;
  }

 private:
  // One row of the image, a vector after the other.
  void pack_permuted(int64_t image_row, float* to) const {
    const Range cols = inside(w_.start, w_.count, w_.size);
    if (image_row < 0 || image_row >= h_.size || cols.begin == cols.end) return fill_zero(to, row);
    fill_zero(to, cols.begin * pixel);
    fill_zero(to + cols.end * pixel, row - cols.end * pixel);
    const float* from = image_ + image_row * x_.h + (w_.start + cols.begin) * x_.w;
    int64_t from_pixel = x_.w;
    if (x_.c != 1 || lanes_.ics != kLanes) {
      float* const channels = scratch_ + h_.count * row;
      strided_copy(from, x_.w, x_.c, channels, kLanes, cols.end - cols.begin, lanes_.ics);
      from = channels, from_pixel = kLanes;
    }
    to += cols.begin * pixel;
    for (int64_t v = 0; v < lanes_.vectors; ++v) {
      const IntVec index = lanes_.index[v];
      for (int64_t j = 0; j < cols.end - cols.begin; ++j)
        store(to + j * pixel + v * kLanes, permute(load(from + j * from_pixel), index));
    }
  }

  const View4d<const float>& x_;
  const GroupedLanes& lanes_;
  float* scratch_;
  const float* image_;
  Extent h_, w_;
  int64_t packed_ = 0;
};

// What the windows of a task cover.
GroupedBand grouped_band(const Conv2dShape& s, const Conv2dGroupedBlocking& b, const View4d<const float>& x,
                         const GroupedTask& t, const GroupedLanes& lanes, float* scratch) {
  const int64_t h = (t.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  const int64_t w = (t.cols - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1;
  return GroupedBand(b, x, t.n, {t.row * s.stride_h - s.pad_top, h, s.ih}, {t.col * s.stride_w - s.pad_left, w, s.iw},
                     lanes, scratch);
}

// Where a task's sums go: straight into a channels_last output, or into scratch [rows, cols, lanes].
struct GroupedSums {
  bool in_place;
  float *origin, *data;
  int64_t row, pixel;

  GroupedSums(const View4d<float>& y, const GroupedTask& t, int64_t oc, float* scratch)
      : in_place(y.c == 1), origin(y.data + t.n * y.n + oc * y.c + t.row * y.h + t.col * y.w),
        data(in_place ? origin : scratch), row(in_place ? y.h : t.cols * kLanes), pixel(in_place ? y.w : kLanes) {}

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
  tile.weight = conv.packed_weight + t.vector * conv.block_floats();
  tile.bias = conv.bias ? load_first(conv.bias + lanes.oc, lanes.ocs) : Vec{};
  tile.relu = conv.relu;
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

// -> packed [vector, kh, ic, kw, lanes]
void conv2d_grouped_pack_weight(const Conv2dGrouped& conv, int64_t vector, float* packed, float*) {
  const Conv2dShape& s = conv.shape;
  const View4d<const float>& w = conv.weight;
  const GroupedLanes lanes(s, conv.blocking, vector);
  const int64_t ics = s.group_ic(), taps = s.kh * s.kw;
  packed += vector * conv.block_floats();
  const float* base[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const int64_t oc = min(lane, lanes.ocs - 1);
    base[lane] = w.data + (lanes.group + oc / s.group_oc()) * conv.weight_group_stride + oc % s.group_oc() * w.n;
  }
  const auto place = [&](int64_t k, int64_t tap) {
    return packed + ((tap / s.kw * ics + k) * s.kw + tap % s.kw) * kLanes;
  };
  const auto offset = [&](int64_t tap) { return tap / s.kw * w.h + tap % s.kw * w.w; };
  // block[i] = what the lanes hold `from + i` floats after their base.
  const auto load_block = [&](int64_t from, int64_t count, Vec (&block)[kLanes]) {
#pragma GCC unroll 16
    for (int lane = 0; lane < kLanes; ++lane) block[lane] = load_first(base[lane] + from, count);
    transpose(block);
  };
  const int64_t low = min(offset(0), offset(taps - 1)), span = max(offset(0), offset(taps - 1)) - low + 1;
  Vec block[kLanes];
  if (span <= kLanes && w.h * w.w >= 0) {  // taps near each other, in this order or in reverse
    for (int64_t k = 0; k < ics; ++k) {
      load_block(k * w.c + low, span, block);
      for (int64_t tap = 0; tap < taps; ++tap) store(place(k, tap), block[offset(tap) - low]);
    }
  } else if (w.c == 1) {  // input channels side by side
    for (int64_t tap = 0; tap < taps; ++tap) {
      load_block(offset(tap), ics, block);
      for (int64_t k = 0; k < ics; ++k) store(place(k, tap), block[k]);
    }
  } else {
    const bool side_by_side = w.n == 1 && conv.blocking.vector_groups == 1;  // output channels
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t k = 0; k < ics; ++k) {
        const int64_t from = k * w.c + offset(tap);
        if (side_by_side)
          store(place(k, tap), load_first(base[0] + from, lanes.ocs));
        else
          for (int64_t lane = 0; lane < kLanes; ++lane) place(k, tap)[lane] = base[lane][from];
      }
  }
}

}  // namespace
}  // namespace convkit
