// Direct convolution: no im2col matrix, no transformed copy of a whole tensor.
//
// A task computes a band of output rows and columns for a chunk of output channels of one image. For each chunk of
// input channels it packs the input band as [band_h, band_w, ic] (zeros where the window hangs over the edge) and the
// weights as [oc tile, kh, kw, ic, tile columns], both small enough for L2; then every register tile (pixels x output
// channels) runs over the whole window. In the packed band the kw * ic floats under a window's row are contiguous, so
// the reduction is kh runs. Packing reads any strides: NCHW is transposed here, inside the loop, and costs about as
// much as channels_last. The output is channels_last in place where it can be, else a scratch tile that is transposed
// at the end.
#pragma once

#include "cpu/kernels/conv2d_planes.inl"
#include "cpu/kernels/conv2d_pool.inl"
#include "cpu/kernels/conv2d_task.h"
#include "cpu/kernels/gemm_tile.inl"
#include "cpu/kernels/pack.inl"

namespace convkit {
namespace {

ConvTask decode(const Conv2dDirect& conv, int64_t task) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBlocking& b = conv.blocking;
  ConvTask t;
  // Output channels run fastest: neighbouring tasks, which a thread gets in a row, share their input band.
  t.oc = task % b.oc_parts * b.oc_part;
  task /= b.oc_parts;
  t.col = task % b.col_bands * b.cols;
  task /= b.col_bands;
  t.row = task % b.row_bands * b.rows;
  task /= b.row_bands;
  t.group = task % s.groups;
  t.n = task / s.groups;
  t.rows = min(b.rows, s.oh - t.row);
  t.cols = min(b.cols, s.ow - t.col);
  t.ocs = min(b.oc_part, s.group_oc() - t.oc);
  return t;
}

// -> band [band_h, band_w, ics]
void pack_input(const Conv2dDirect& conv, const ConvTask& t, int64_t ic, int64_t ics, float* band) {
  const Conv2dShape& s = conv.shape;
  const int64_t band_h = (t.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  const float* image = conv.input.data + t.n * conv.input.n + (t.group * s.group_ic() + ic) * conv.input.c;
  pack_band(conv.input, image, {t.row * s.stride_h - s.pad_top, band_h, s.ih},
            {t.col * s.stride_w - s.pad_left, conv.blocking.band_w, s.iw}, ics, ics, band);
}

// -> panels [oc tile, kh, kw, ics, kTileCols]
void pack_weight(const Conv2dDirect& conv, const ConvTask& t, int64_t ic, int64_t ics, float* panels) {
  const Conv2dShape& s = conv.shape;
  const View4d<const float>& w = conv.weight;
  const float* source = w.data + t.group * conv.weight_group_stride + t.oc * w.n + ic * w.c;
  for (int64_t oc = 0; oc < t.ocs; oc += kTileCols, panels += s.kh * s.kw * ics * kTileCols)
    pack_weight_panel(w, source + oc * w.n, s.kh, s.kw, ics, min(kTileCols, t.ocs - oc), panels);
}

// Calls for the weights of the next chunk of input channels, output channels [begin, end) of the task, while this chunk
// computes: they lie in short runs, which no hardware prefetcher follows, and are most of the memory traffic of a layer
// with many channels. (Always inlined: gcc takes a function that only prefetches for one without effect, and drops it.)
[[gnu::always_inline]] inline void prefetch_weight(const Conv2dDirect& conv, const ConvTask& t, int64_t begin,
                                                   int64_t end, int64_t ic) {
  constexpr int64_t kCacheLine = 16;  // floats
  const Conv2dShape& s = conv.shape;
  const View4d<const float>& w = conv.weight;
  const int64_t ics = min(conv.blocking.ic_chunk, s.group_ic() - ic), taps = s.kh * s.kw;
  const bool taps_inside = w.w == 1 && w.h == s.kw && w.c == taps;
  if (ics <= 0 || (!taps_inside && w.c != 1)) return;
  for (int64_t oc = begin; oc < end; ++oc) {
    const float* row = w.data + t.group * conv.weight_group_stride + (t.oc + oc) * w.n + ic * w.c;
    for (int64_t tap = 0; tap < (taps_inside ? 1 : taps); ++tap) {
      const float* run = row + tap / s.kw * w.h + tap % s.kw * w.w;
      for (int64_t i = 0; i < (taps_inside ? ics * taps : ics); i += kCacheLine) __builtin_prefetch(run + i, 0, 2);
    }
  }
}

// Where a task's sums go: straight into a channels_last output, or into scratch [rows, cols, oc_chunk].
struct Sums {
  float* data;
  int64_t row, pixel;  // strides
};

Sums place_sums(const Conv2dDirect& conv, const ConvTask& t, float* scratch) {
  const View4d<float>& y = conv.output;
  if (conv.blocking.sums == Conv2dSums::kInPlace) {
    const int64_t oc = t.group * conv.shape.group_oc() + t.oc;
    return {y.data + t.n * y.n + t.row * y.h + t.col * y.w + oc, y.h, y.w};
  }
  const int64_t pixel = round_up(conv.blocking.oc_chunk, kTileCols);
  return {scratch, t.cols * pixel, pixel};
}

void conv2d_direct_pack_weight(const Conv2dDirect& conv, int64_t block, float* packed, float*) {
  const Conv2dBlocking& b = conv.blocking;
  const int64_t ic = block % b.ic_chunks * b.ic_chunk, ocs = block / b.ic_chunks;
  ConvTask t{};
  t.group = ocs / b.oc_chunks, t.oc = ocs % b.oc_chunks * b.oc_chunk;
  t.ocs = min(b.oc_chunk, conv.shape.group_oc() - t.oc);
  pack_weight(conv, t, ic, min(b.ic_chunk, conv.shape.group_ic() - ic), packed + block * conv.block_floats());
}

// The products of a window with a band [rows, band_w, ics], cut into chains.
GemmTile window_products(const Conv2dShape& s, int64_t ics, int64_t band_w) {
  GemmTile tile{};
  if (s.kh == 1 && s.dilation_w == 1) {  // one run
    const int64_t run = s.kw * ics;
    tile.outer = ceil_div(run, kConv2dChain);
    tile.inner = 1;
    tile.run = tile.a_outer = ceil_div(run, tile.outer);
    tile.missing_run = tile.outer * tile.run - run;
  } else {
    tile.outer = s.kh;
    tile.inner = s.dilation_w == 1 ? 1 : s.kw;
    tile.run = s.dilation_w == 1 ? s.kw * ics : ics;
    tile.a_outer = s.dilation_h * band_w * ics;
    tile.a_inner = s.dilation_w * ics;
  }
  tile.split = s.kh * s.kw * ics > kConv2dChain;
  return tile;
}

void conv2d_direct_forward(const Conv2dDirect& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBlocking& b = conv.blocking;
  const ConvTask t = decode(conv, task);
  if (b.sums == Conv2dSums::kPlanes) return conv2d_planes_forward(conv, t, scratch);
  float* band = scratch;
  float* scratch_panels = band + b.input_floats;
  const Sums sums = place_sums(conv, t, scratch_panels + b.weight_floats);
  const float* bias = conv.bias ? conv.bias + t.group * s.group_oc() + t.oc : nullptr;

  // A 1x1 window reads a channels_last input where it lies.
  const bool in_place = s.kh == 1 && s.kw == 1 && conv.input.c == 1 && s.stride_h == 1 && s.stride_w == 1 &&
                        s.pad_top == 0 && s.pad_left == 0 && s.ih == s.oh && s.iw == s.ow;
  const float* pixels =
      conv.input.data + t.n * conv.input.n + t.row * conv.input.h + t.col * conv.input.w + t.group * s.group_ic();

  // A 1x1 window reads little and writes much: some pixels get all their output channels before the next ones.
  const int64_t col_block = s.kh * s.kw == 1 ? 8 * kTileRows : t.cols;
  for (int64_t ic = 0; ic < s.group_ic(); ic += b.ic_chunk) {
    const int64_t ics = min(b.ic_chunk, s.group_ic() - ic);
    if (!in_place) pack_input(conv, t, ic, ics, band);
    const int64_t block = (t.group * b.oc_chunks + t.oc / b.oc_chunk) * b.ic_chunks + ic / b.ic_chunk;
    const float* panels = scratch_panels;
    if (conv.packed_weight)
      panels = conv.packed_weight + block * conv.block_floats() + t.oc % b.oc_chunk * s.kh * s.kw * ics;
    if (!conv.packed_weight) pack_weight(conv, t, ic, ics, scratch_panels);
    const bool last = ic + ics == s.group_ic();
    GemmTile tile = window_products(s, ics, b.band_w);
    tile.a_row = in_place ? conv.input.w : s.stride_w * ics;
    tile.c_row = sums.pixel;
    tile.accumulate = ic > 0;
    tile.relu = last && conv.relu;
    for (int64_t col = 0; col < t.cols; col += col_block) {
      const int64_t cols = min(col_block, t.cols - col);
      for (int64_t oc = 0; oc < t.ocs; oc += kTileCols) {
        float padded_bias[kTileCols] = {};
        tile.cols = min(kTileCols, t.ocs - oc);
        tile.b = panels + oc * s.kh * s.kw * ics;
        if (last && bias) std::memcpy(padded_bias, bias + oc, tile.cols * sizeof(float));
        tile.bias = last && bias ? padded_bias : nullptr;
        for (int64_t r = 0; r < t.rows; ++r) {
          if (col == 0 && !conv.packed_weight)
            prefetch_weight(conv, t, oc + tile.cols * r / t.rows, oc + tile.cols * (r + 1) / t.rows, ic + ics);
          tile.a =
              (in_place ? pixels + r * conv.input.h + ic : band + r * s.stride_h * b.band_w * ics) + col * tile.a_row;
          tile.c = sums.data + r * sums.row + col * sums.pixel + oc;
          gemm_rows(tile, cols);
        }
      }
    }
  }
  if (conv.pool) {
    const View4d<const float> view{sums.data, 0, 1, sums.row, sums.pixel};
    const PoolBand pooled{view, t.n, t.row, t.rows, t.col, t.cols, t.group * s.group_oc() + t.oc, t.ocs};
    store_pooled(*conv.pool, pooled, scratch_panels + b.weight_floats + b.output_floats);
  } else if (b.sums == Conv2dSums::kScratch) {
    const View4d<float>& y = conv.output;
    float* origin = y.data + t.n * y.n + (t.group * s.group_oc() + t.oc) * y.c + t.row * y.h + t.col * y.w;
    store_pixels(sums.data, sums.row, sums.pixel, y, origin, t.rows, t.cols, t.ocs);
  }
}

}  // namespace
}  // namespace convkit
