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
#include "cpu/kernels/pack_pairs.inl"

namespace convkit {
namespace {

template <typename T>
ConvTask decode(const Conv2dDirect<T>& conv, int64_t task) {
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

// The window on a packed band: what `ics` input channels make of it, in whole steps.
struct BandWindow {
  int64_t kw, stride_w, dilation_w;
  int64_t band_w, channels;
};

template <typename T>
BandWindow band_window(const Conv2dDirect<T>& conv, int64_t ics) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBlocking& b = conv.blocking;
  if (b.row_patches) return {1, 1, 1, b.cols, round_up(s.kw * ics, kStepNumbers<T>)};
  return {s.kw, s.stride_w, s.dilation_w, b.band_w, round_up(ics, kStepNumbers<T>)};
}

// -> band [band_h, band_w, channels]
template <typename T>
void pack_input(const Conv2dDirect<T>& conv, const ConvTask& t, int64_t ic, int64_t ics, T* band) {
  const Conv2dShape& s = conv.shape;
  const int64_t band_h = (t.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  const T* image = conv.input.data + t.n * conv.input.n + (t.group * s.group_ic() + ic) * conv.input.c;
  const Extent h{t.row * s.stride_h - s.pad_top, band_h, s.ih};
  const Extent w{t.col * s.stride_w - s.pad_left, conv.blocking.band_w, s.iw};
  if constexpr (kStepNumbers<T> > 1) {
    if (conv.blocking.row_patches)
      return pack_row_patches(conv.input, image, h, w, {ics, s.kw * ics, s.stride_w, conv.blocking.cols}, band);
  }
  pack_band(conv.input, image, h, w, ics, round_up(ics, kStepNumbers<T>), band);
}

// Numbers of a window's row in a panel of packed weights.
template <typename T>
int64_t panel_row(const Conv2dDirect<T>& conv, int64_t ics) {
  const BandWindow window = band_window(conv, ics);
  return window.kw * window.channels * kTileCols;
}

// -> panels [oc tile, kh, kw, channels, kTileCols]
template <typename T>
void pack_weight(const Conv2dDirect<T>& conv, const ConvTask& t, int64_t ic, int64_t ics, T* panels) {
  const Conv2dShape& s = conv.shape;
  const View4d<const T>& w = conv.weight;
  const T* source = w.data + t.group * conv.weight_group_stride + t.oc * w.n + ic * w.c;
  for (int64_t oc = 0; oc < t.ocs; oc += kTileCols, panels += s.kh * panel_row(conv, ics)) {
    const int64_t cols = min(kTileCols, t.ocs - oc);
    if constexpr (kStepNumbers<T> > 1) {
      if (conv.blocking.row_patches) {
        pack_row_weight(w, source + oc * w.n, {s.kh, s.kw, ics, cols}, panels);
        continue;
      }
    }
    pack_weight_panel(w, source + oc * w.n, s.kh, s.kw, ics, cols, panels);
  }
}

// Calls for the weights of the next chunk of input channels, output channels [begin, end) of the task, while this chunk
// computes: they lie in short runs, which no hardware prefetcher follows, and are most of the memory traffic of a layer
// with many channels. (Always inlined: gcc takes a function that only prefetches for one without effect, and drops it.)
template <typename T>
[[gnu::always_inline]] inline void prefetch_weight(const Conv2dDirect<T>& conv, const ConvTask& t, int64_t begin,
                                                   int64_t end, int64_t ic) {
  constexpr int64_t kCacheLine = 64 / sizeof(T);
  const Conv2dShape& s = conv.shape;
  const View4d<const T>& w = conv.weight;
  const int64_t ics = min(conv.blocking.ic_chunk, s.group_ic() - ic), taps = s.kh * s.kw;
  const bool taps_inside = w.w == 1 && w.h == s.kw && w.c == taps;
  if (ics <= 0 || (!taps_inside && w.c != 1)) return;
  for (int64_t oc = begin; oc < end; ++oc) {
    const T* row = w.data + t.group * conv.weight_group_stride + (t.oc + oc) * w.n + ic * w.c;
    for (int64_t tap = 0; tap < (taps_inside ? 1 : taps); ++tap) {
      const T* run = row + tap / s.kw * w.h + tap % s.kw * w.w;
      for (int64_t i = 0; i < (taps_inside ? ics * taps : ics); i += kCacheLine) __builtin_prefetch(run + i, 0, 2);
    }
  }
}

// Where a task's sums go: straight into a channels_last output, or into scratch [rows, cols, oc_chunk].
template <typename Out>
struct Sums {
  Out* data;
  int64_t row, pixel;  // strides
};

template <typename T>
void conv2d_direct_pack_weight(const Conv2dDirect<T>& conv, int64_t block, float* packed, float*) {
  const Conv2dBlocking& b = conv.blocking;
  const int64_t ic = block % b.ic_chunks * b.ic_chunk, ocs = block / b.ic_chunks;
  ConvTask t{};
  t.group = ocs / b.oc_chunks, t.oc = ocs % b.oc_chunks * b.oc_chunk;
  t.ocs = min(b.oc_chunk, conv.shape.group_oc() - t.oc);
  pack_weight(conv, t, ic, min(b.ic_chunk, conv.shape.group_ic() - ic),
              reinterpret_cast<T*>(packed + block * conv.block_floats()));
}

// The products of a window with a band [rows, band_w, channels], cut into chains.
template <typename T, typename Out>
GemmTileOf<T, Out> window_products(const Conv2dShape& s, const BandWindow& w) {
  GemmTileOf<T, Out> tile{};
  const int64_t run = w.kw * w.channels;
  if (s.kh == 1 && w.dilation_w == 1) {  // one run
    tile.outer = ceil_div(run, kConv2dChain);
    tile.inner = 1;
    tile.run = ceil_div(run / kStepNumbers<T>, tile.outer);
    tile.a_outer = tile.run * kStepNumbers<T>;
    tile.missing_run = tile.outer * tile.run - run / kStepNumbers<T>;
  } else {
    tile.outer = s.kh;
    tile.inner = w.dilation_w == 1 ? 1 : w.kw;
    tile.run = (w.dilation_w == 1 ? run : w.channels) / kStepNumbers<T>;
    tile.a_outer = s.dilation_h * w.band_w * w.channels;
    tile.a_inner = w.dilation_w * w.channels;
  }
  tile.split = s.kh * run > kConv2dChain;
  return tile;
}

template <typename T, typename Out>
void sum_band(const Conv2dDirect<T>& conv, const ConvTask& t, float* scratch, const Sums<Out>& sums) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBlocking& b = conv.blocking;
  T* const band = reinterpret_cast<T*>(scratch);
  T* const scratch_panels = reinterpret_cast<T*>(scratch + b.input_floats);
  const float* bias = conv.bias ? conv.bias + t.group * s.group_oc() + t.oc : nullptr;

  // A 1x1 window reads a channels_last input where it lies.
  const bool in_place = s.kh == 1 && s.kw == 1 && conv.input.c == 1 && s.stride_h == 1 && s.stride_w == 1 &&
                        s.pad_top == 0 && s.pad_left == 0 && s.ih == s.oh && s.iw == s.ow &&
                        s.group_ic() % kStepNumbers<T> == 0;
  const T* pixels =
      conv.input.data + t.n * conv.input.n + t.row * conv.input.h + t.col * conv.input.w + t.group * s.group_ic();

  // A 1x1 window reads little and writes much: some pixels get all their output channels before the next ones.
  const int64_t col_block = s.kh * s.kw == 1 ? 8 * kTileRows : t.cols;
  for (int64_t ic = 0; ic < s.group_ic(); ic += b.ic_chunk) {
    const int64_t ics = min(b.ic_chunk, s.group_ic() - ic);
    const BandWindow window = band_window(conv, ics);
    const int64_t column = s.kh * panel_row(conv, ics) / kTileCols;  // numbers of an output channel
    if (!in_place) pack_input(conv, t, ic, ics, band);
    const int64_t block = (t.group * b.oc_chunks + t.oc / b.oc_chunk) * b.ic_chunks + ic / b.ic_chunk;
    const T* panels = scratch_panels;
    if (conv.packed_weight)
      panels =
          reinterpret_cast<const T*>(conv.packed_weight + block * conv.block_floats()) + t.oc % b.oc_chunk * column;
    if (!conv.packed_weight) pack_weight(conv, t, ic, ics, scratch_panels);
    const bool last = ic + ics == s.group_ic();
    auto tile = window_products<T, Out>(s, window);
    tile.a_row = in_place ? conv.input.w : window.stride_w * window.channels;
    tile.c_row = sums.pixel;
    tile.accumulate = ic > 0;
    tile.activation = last ? conv.activation : Activation::kNone;
    for (int64_t col = 0; col < t.cols; col += col_block) {
      const int64_t cols = min(col_block, t.cols - col);
      for (int64_t oc = 0; oc < t.ocs; oc += kTileCols) {
        float padded_bias[kTileCols] = {};
        tile.cols = min(kTileCols, t.ocs - oc);
        tile.b = panels + oc * column;
        if (last && bias) std::memcpy(padded_bias, bias + oc, tile.cols * sizeof(float));
        tile.bias = last && bias ? padded_bias : nullptr;
        for (int64_t r = 0; r < t.rows; ++r) {
          if (col == 0 && !conv.packed_weight)
            prefetch_weight(conv, t, oc + tile.cols * r / t.rows, oc + tile.cols * (r + 1) / t.rows, ic + ics);
          const T* row =
              in_place ? pixels + r * conv.input.h + ic : band + r * s.stride_h * window.band_w * window.channels;
          tile.a = row + col * tile.a_row;
          tile.c = sums.data + r * sums.row + col * sums.pixel + oc;
          gemm_rows(tile, cols);
        }
      }
    }
  }
}

template <typename T>
void conv2d_direct_forward(const Conv2dDirect<T>& conv, int64_t task, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBlocking& b = conv.blocking;
  const ConvTask t = decode(conv, task);
  if constexpr (std::is_same_v<T, float>) {
    if (b.sums == Conv2dSums::kPlanes) return conv2d_planes_forward(conv, t, scratch);
  }
  const View4d<T>& y = conv.output;
  const int64_t oc = t.group * s.group_oc() + t.oc;
  T* const origin = conv.pool ? nullptr : y.data + t.n * y.n + oc * y.c + t.row * y.h + t.col * y.w;
  if (b.sums == Conv2dSums::kInPlace) return sum_band(conv, t, scratch, Sums<T>{origin, y.h, y.w});
  const int64_t pixel = round_up(b.oc_chunk, kTileCols), row = t.cols * pixel;
  float* const sums = scratch + b.input_floats + b.weight_floats;
  sum_band(conv, t, scratch, Sums<float>{sums, row, pixel});
  if (!conv.pool) return store_pixels(sums, row, pixel, y, origin, t.rows, t.cols, t.ocs);
  if constexpr (!std::is_same_v<T, float>)  // which of its values wins a window shows when they are rounded
    for (int64_t i = 0; i < t.rows * row; i += kLanes) store(sums + i, rounded<T>(load(sums + i)));
  const PoolBand pooled{{sums, 0, 1, row, pixel}, t.n, t.row, t.rows, t.col, t.cols, oc, t.ocs};
  store_pooled(*conv.pool, pooled, sums + b.output_floats);
}

}  // namespace
}  // namespace convkit
