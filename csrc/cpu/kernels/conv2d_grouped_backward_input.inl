// Gradient of the input of a grouped convolution of few channels, three taps wide and of stride 2: of the pixels of a
// row, every second one meets two taps, the others one. A tile computes both kinds, so that each number of grad_output
// serves all its taps, and every pixel is written once. (Any other stride goes phase by phase.)
#pragma once

#include "cpu/kernels/conv2d_grouped.inl"

namespace convkit {
namespace {

constexpr int kGroupedPairs = kGroupedPixels / 2;  // of pixels of a register tile

struct GroupedPairsTile {
  GroupedTile tile;    // its input is the first pair's pixel of grad_output
  int64_t begin, end;  // of the pixels that exist, of all of the tile's pairs
};

// Pair m is the pixels 2 m, with taps 0 of input pixel m and 2 of m - 1, and 2 m + 1, with tap 1 of input pixel m.
template <GroupedInput Input, int K, int Pairs>
inline void add_grouped_pairs(const float* row, const float* weight, int64_t pixel, Vec (&sum)[2 * Pairs]) {
  const Vec w[3] = {load(weight), load(weight + kLanes), load(weight + 2 * kLanes)};
#pragma GCC unroll 8
  for (int m = -1; m < Pairs; ++m) {
    const Vec value = grouped_channel<Input, K>(row + m * pixel);
    if (m >= 0) sum[2 * m] += value * w[0], sum[2 * m + 1] += value * w[1];
    if (m + 1 < Pairs) sum[2 * m + 2] += value * w[2];
  }
}

template <GroupedInput Input, int Pairs>
void grouped_pairs_tile(const GroupedPairsTile& t) {
  const GroupedTile tile = t.tile;
  constexpr int kChannels = Input == GroupedInput::kFours ? 4 : 1, kStep = 3 * kLanes;
  Vec sum[2 * Pairs] = {};
  for (int64_t i = 0; i < tile.kh; ++i) {
    const float *row = tile.input + i * tile.input_h, *weight = tile.weight + i * tile.weight_h;
    for (int64_t k = 0; k < tile.ics;
         k += kChannels, row += kGroupedStep<Input, kChannels>, weight += kChannels * kStep) {
      add_grouped_pairs<Input, 0, Pairs>(row, weight, tile.pixel, sum);
      if constexpr (kChannels == 4) {
        add_grouped_pairs<Input, 1, Pairs>(row, weight + kStep, tile.pixel, sum);
        add_grouped_pairs<Input, 2, Pairs>(row, weight + 2 * kStep, tile.pixel, sum);
        add_grouped_pairs<Input, 3, Pairs>(row, weight + 3 * kStep, tile.pixel, sum);
      }
    }
  }
  store_grouped(tile, sum, t.begin, t.end);
}

typedef void GroupedPairsFunction(const GroupedPairsTile&);

struct GroupedPairsTiles {
  GroupedPairsFunction* of[kGroupedPairs];  // by pairs - 1
};

template <GroupedInput Input, int... Pair>
constexpr GroupedPairsTiles make_grouped_pairs(std::integer_sequence<int, Pair...>) {
  return {{grouped_pairs_tile<Input, Pair + 1>...}};
}

constexpr auto kAllGroupedPairs = std::make_integer_sequence<int, kGroupedPairs>{};
constexpr GroupedPairsTiles kGroupedPairsTiles[3] = {make_grouped_pairs<GroupedInput::kScalars>(kAllGroupedPairs),
                                                     make_grouped_pairs<GroupedInput::kFours>(kAllGroupedPairs),
                                                     make_grouped_pairs<GroupedInput::kVectors>(kAllGroupedPairs)};

// Of `conv.shape`, input and output are exchanged: grad_output and grad_input.
void conv2d_grouped_backward_input_by_twos(const Conv2dGrouped& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dGroupedBlocking& b = conv.blocking;
  const GroupedTask t = decode(conv, task);
  const GroupedLanes lanes(s, b, t.vector);
  // Positions in the padded image; rows of grad_output and pairs that they meet.
  const int64_t row = t.row + s.pad_top, col = t.col + s.pad_left;
  const int64_t first_row = ceil_div(max(row - (s.kh - 1), 0), s.stride_h), last_row = (row + t.rows - 1) / s.stride_h;
  const int64_t first_pair = col / 2, pairs = (col + t.cols - 1) / 2 + 1 - first_pair;
  GroupedBand band(b, conv.input, t.n, {first_row, max(last_row - first_row + 1, 0), s.ih},
                   {first_pair - 1, pairs + 1, s.iw}, lanes, scratch);
  const GroupedSums sums(conv.output, t, lanes.oc, scratch + b.input_floats);
  GroupedPairsTile pair{};
  GroupedTile& tile = pair.tile;
  tile.input_h = -band.row, tile.pixel = band.pixel;
  tile.ics = s.group_ic();
  const float* const weight = grouped_weight(conv, t, lanes, scratch);
  const int64_t weight_h = s.group_ic() * 3 * kLanes;
  tile.weight_h = s.stride_h * weight_h;
  tile.output_pixel = sums.pixel;
  tile.ocs = sums.in_place ? lanes.ocs : kLanes;
  for (int64_t r = 0; r < t.rows; ++r) {
    // Taps i, i + stride_h, ... meet rows of grad_output from `from` on, in reverse.
    const int64_t from = min((row + r) / s.stride_h, s.ih - 1), i = row + r - from * s.stride_h;
    band.pack_before(from - first_row + 1);
    tile.kh = i < s.kh ? min((s.kh - 1 - i) / s.stride_h, from) + 1 : 0;
    tile.weight = weight + i * weight_h;
    tile.output = sums.data + r * sums.row;
    for (int64_t left = ceil_div(pairs, kGroupedPairs), m = 0; left > 0; --left) {
      const int64_t count = ceil_div(pairs - m, left), begin = 2 * (first_pair + m) - col;
      tile.input = band.data + (from - first_row) * band.row + (m + 1) * band.pixel;
      pair.begin = max(-begin, 0), pair.end = min(2 * count, t.cols - begin);
      kGroupedPairsTiles[static_cast<int>(b.input)].of[count - 1](pair);
      tile.output += (pair.end - pair.begin) * tile.output_pixel;
      m += count;
    }
  }
  sums.store_into(conv.output, t, lanes.ocs);
}

}  // namespace
}  // namespace convkit
