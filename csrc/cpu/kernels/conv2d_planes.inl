// Direct convolution of few input channels into a contiguous output, such as the first layer of a network on NCHW
// images.
//
// The sums are too short to pay for a transposition, so the register tile is turned: output channels are its rows,
// pixels its columns, and it writes straight into the output's planes. A task packs the input band as planes [ic,
// band_h, band_w], and per kTileCols pixels of a row the panel [kh, kw, ic, kTileCols] of what each weight meets.
// Products are summed in the order of the other path, with the bias as a last product with 1: the same bits.
#pragma once

#include "cpu/kernels/conv2d_task.h"
#include "cpu/kernels/gemm_tile.inl"
#include "cpu/kernels/pack.inl"

namespace convkit {
namespace {

// -> planes [ic, band_h, band_w], zeros where the window hangs over the edge.
void pack_planes(const Conv2dDirect& conv, const ConvTask& t, float* planes) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBlocking& b = conv.blocking;
  const int64_t h0 = t.row * s.stride_h - s.pad_top, w0 = t.col * s.stride_w - s.pad_left;
  const Range h = inside(h0, b.band_h, s.ih), w = inside(w0, b.band_w, s.iw);
  const View4d<const float>& x = conv.input;
  for (int64_t ic = 0; ic < s.group_ic(); ++ic) {
    const float* source = x.data + t.n * x.n + (t.group * s.group_ic() + ic) * x.c + w0 * x.w;
    for (int64_t i = 0; i < b.band_h; ++i, planes += b.band_w) {
      fill_zero(planes, b.band_w);
      if (i < h.begin || i >= h.end) continue;
      const float* row = source + (h0 + i) * x.h;
      for (int64_t j = w.begin; j < w.end; ++j) planes[j] = row[j * x.w];
    }
  }
}

// -> rows [ocs, kh, kw, ic] with the bias behind each.
void pack_weight_rows(const Conv2dDirect& conv, const ConvTask& t, float* rows) {
  const Conv2dShape& s = conv.shape;
  const View4d<const float>& w = conv.weight;
  const float* weight = w.data + t.group * conv.weight_group_stride + t.oc * w.n;
  for (int64_t oc = 0; oc < t.ocs; ++oc, weight += w.n) {
    for (int64_t kh = 0; kh < s.kh; ++kh)
      for (int64_t kw = 0; kw < s.kw; ++kw)
        for (int64_t ic = 0; ic < s.group_ic(); ++ic) *rows++ = weight[kh * w.h + kw * w.w + ic * w.c];
    *rows++ = conv.bias ? conv.bias[t.group * s.group_oc() + t.oc + oc] : 0.0f;
  }
}

// -> panel [kh, kw, ic, kTileCols] of the pixels [col, col + cols) of output row r of the band, and a row of ones.
void pack_pixels(const Conv2dDirect& conv, const float* planes, int64_t r, int64_t col, int64_t cols, float* panel) {
  const Conv2dShape& s = conv.shape;
  const Conv2dBlocking& b = conv.blocking;
  for (int64_t kh = 0; kh < s.kh; ++kh) {
    for (int64_t kw = 0; kw < s.kw; ++kw) {
      const float* p = planes + (r * s.stride_h + kh * s.dilation_h) * b.band_w + col * s.stride_w + kw * s.dilation_w;
      for (int64_t ic = 0; ic < s.group_ic(); ++ic, p += b.band_h * b.band_w, panel += kTileCols) {
        if (s.stride_w == 1 && cols == kTileCols)
          for (int v = 0; v < kTileVecs; ++v) store(panel + v * kLanes, load(p + v * kLanes));
        else
          for (int64_t i = 0; i < cols; ++i) panel[i] = p[i * s.stride_w];
      }
    }
  }
  for (int i = 0; i < kTileCols; ++i) panel[i] = 1.0f;
}

void conv2d_planes_forward(const Conv2dDirect& conv, const ConvTask& t, float* scratch) {
  const Conv2dShape& s = conv.shape;
  const int64_t steps = s.kh * s.kw * s.group_ic() + 1;
  float* planes = scratch;
  float* rows = planes + conv.blocking.input_floats;
  float* panel = rows + conv.blocking.weight_floats;
  pack_planes(conv, t, planes);
  pack_weight_rows(conv, t, rows);
  const View4d<float>& y = conv.output;
  GemmTile tile{};
  tile.a = rows;
  tile.a_row = steps;
  tile.outer = tile.inner = 1;
  tile.run = conv.bias ? steps : steps - 1;
  tile.b = panel;
  tile.c_row = y.c;
  tile.relu = conv.relu;
  for (int64_t r = 0; r < t.rows; ++r) {
    for (int64_t col = 0; col < t.cols; col += kTileCols) {
      tile.cols = min(kTileCols, t.cols - col);
      pack_pixels(conv, planes, r, col, tile.cols, panel);
      tile.c = y.data + t.n * y.n + (t.group * s.group_oc() + t.oc) * y.c + (t.row + r) * y.h + t.col + col;
      gemm_rows(tile, t.ocs);
    }
  }
}

}  // namespace
}  // namespace convkit
