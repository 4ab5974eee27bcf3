// Gradient of a direct convolution's weight: grad_weight[oc, ic, tap] is a sum over pixels, run as one tile GEMM per
// tap with input channels as the rows, output channels as the columns and a band of pixels as the reduction. With few
// input channels the rows are the weights of all taps (conv2d_backward_weight_taps.inl).
//
// A task owns a chunk of input channels x a chunk of output channels, all taps, and every `splits`-th part of the bands
// of all images, so no two tasks add to the same number.
#pragma once

#include "cpu/kernels/conv2d_backward_weight_taps.inl"

namespace convkit {
namespace {

// Columns of a row of sums: the output channels of a task in whole vectors.
inline int64_t weight_columns(const Conv2dBackwardWeightBlocking& b) { return round_up(b.oc_chunk, kLanes); }

// -> dy [oc tile, rows, cols, the tile's columns in whole vectors]; columns beyond the last output channel are zero.
void pack_grad_output(const Conv2dBackwardWeight& conv, const BackwardWeightTask& t, const PixelBand& band, float* dy) {
  const View4d<const float>& v = conv.grad_output;
  const bool one_row = v.h == band.cols * v.w;
  const int64_t pixels = band.rows * band.cols, run = one_row ? pixels : band.cols;
  for (int64_t oc = 0; oc < t.ocs; oc += kTileCols) {
    const int64_t channels = min(kTileCols, t.ocs - oc), columns = round_up(channels, kLanes);
    const float* source =
        v.data + band.n * v.n + (t.group * conv.shape.group_oc() + t.oc + oc) * v.c + band.row * v.h + band.col * v.w;
    if (channels < columns) fill_zero(dy, pixels * columns);
    for (int64_t left = pixels; left > 0; left -= run, source += v.h, dy += run * columns)
      strided_copy(source, v.w, v.c, dy, columns, run, channels);
  }
}

// scratch.sums [kh, kw, ic_chunk, columns] += the band's products.
void accumulate_band(const Conv2dBackwardWeight& conv, const BackwardWeightTask& t, const PixelBand& band,
                     const PackedInput& input, const BackwardWeightScratch& scratch, bool accumulate) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBackwardWeightBlocking& b = conv.blocking;
  const int64_t columns = weight_columns(b), pixels = band.rows * band.cols;
  GemmTile tile{};
  tile.a_row = input.channel, tile.a_outer = s.stride_h * input.row, tile.a_inner = input.pixel;
  tile.outer = band.rows, tile.inner = 1, tile.run = band.cols;
  tile.c_row = columns;
  tile.accumulate = accumulate;
  // Whole vectors of a channels_last gradient are read where they lie.
  const View4d<const float>& g = conv.grad_output;
  const bool in_place = g.c == 1 && t.ocs % kLanes == 0 && (band.rows == 1 || g.h == band.cols * g.w);
  const float* grad_output = g.data + band.n * g.n + band.row * g.h + band.col * g.w + t.group * s.group_oc() + t.oc;
  if (!in_place) pack_grad_output(conv, t, band, scratch.grad_output);
  for (int64_t oc = 0; oc < t.ocs; oc += kTileCols) {
    tile.b = in_place ? grad_output + oc : scratch.grad_output + oc * pixels;
    tile.cols = min(kTileCols, round_up(t.ocs, kLanes) - oc);
    tile.b_row = in_place ? g.w : tile.cols;
    if (b.tile == BackwardWeightTile::kAllTaps) {
      tile.a = scratch.x, tile.c = scratch.sums + oc;
      all_taps(s, tile, scratch.first_pixels, t.ics);
      continue;
    }
    for (int64_t kh = 0; kh < s.kh; ++kh) {
      for (int64_t kw = 0; kw < s.kw; ++kw) {
        tile.a = scratch.x + input.tap(s, kh, kw);
        tile.c = scratch.sums + (kh * s.kw + kw) * b.ic_chunk * columns + oc;
        gemm_rows(tile, t.ics);
      }
    }
  }
}

// sums [kh, kw, ic_chunk, columns] -> the weight's strides.
template <typename Conv>
void store_weight(const Conv& conv, const BackwardWeightTask& t, int64_t columns, const float* sums) {
  const Conv2dShape& s = conv.shape;
  const View4d<float>& g = conv.grad_weight;
  const int64_t tap_floats = conv.blocking.ic_chunk * columns;
  float* out = g.data + t.split * conv.split_stride + (t.group * s.group_oc() + t.oc) * g.n + t.ic * g.c;
  const int64_t taps = s.kh * s.kw;
  if (g.c == 1) {
    for (int64_t tap = 0; tap < taps; ++tap)
      transpose_copy(sums + tap * tap_floats, columns, out + tap / s.kw * g.h + tap % s.kw * g.w, g.n, t.ics, t.ocs);
    return;
  }
  // A few output channels at a time: each is a run of memory of its own.
  const bool contiguous = g.w == 1 && g.h == s.kw && g.c == taps;
  for (int64_t first = 0; first < t.ocs; first += kLanes) {
    const int64_t ocs = min(kLanes, t.ocs - first), steps = t.ics * taps;
    float* to = out + first * g.n;
    int64_t step = 0, tap = 0;
    const float* from = sums + first;  // of this input channel
    if (contiguous && ocs == kLanes) {
      for (; step + kLanes <= steps; step += kLanes) {
        Vec block[kLanes];
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; ++r) {
          block[r] = load(from + tap * tap_floats);
          if (++tap == taps) tap = 0, from += columns;
        }
        transpose(block);
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; ++r) store(to + r * g.n + step, block[r]);
      }
    }
    for (; step < steps; ++step) {
      const float* numbers = from + tap * tap_floats;
      float* place = to + step / taps * g.c + tap / s.kw * g.h + tap % s.kw * g.w;
      for (int64_t oc = 0; oc < ocs; ++oc) place[oc * g.n] = numbers[oc];
      if (++tap == taps) tap = 0, from += columns;
    }
  }
}

void conv2d_backward_weight(const Conv2dBackwardWeight& conv, int64_t task, float* memory) {
  const Conv2dBackwardWeightBlocking& b = conv.blocking;
  const BackwardWeightTask t = backward_weight_task(conv, task);
  const BackwardWeightScratch scratch(b, memory);
  // Pixels of one weight need not be contiguous: a channels_last image is read as it is.
  const bool all_taps = b.tile == BackwardWeightTile::kAllTaps, channels_last = all_taps && conv.input.c == 1;
  const PackedInput input(conv, t.ics, channels_last);
  if (all_taps) list_weights(conv.shape, input, t.ics, scratch.first_pixels);
  const float* total = sum_bands(conv, t.split, scratch.sums, [&](const PixelBand& band, bool accumulate) {
    pack_input(conv, t, band, channels_last, scratch.x);
    accumulate_band(conv, t, band, input, scratch, accumulate);
  });
  store_weight(conv, t, weight_columns(b), total);
}

}  // namespace
}  // namespace convkit
