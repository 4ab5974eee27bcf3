// Weights of a Winograd convolution: packed in panels, from any strides, and transformed.
#pragma once

#include "cpu/kernels/conv2d_winograd.h"
#include "cpu/kernels/pack.inl"
#include "cpu/kernels/winograd_transforms.inl"

namespace convkit {
namespace {

// A block of weights: a chunk of output channels x a chunk of input channels.
struct WinogradWeightBlock {
  int64_t index, oc, ocs, ic, ics;
};

template <typename T>
WinogradWeightBlock winograd_weight_block(const Conv2dWinograd<T>& conv, int64_t index) {
  const Conv2dWinogradBlocking& b = conv.blocking;
  const int64_t oc = index / b.ic_chunks * b.oc_chunk, ic = index % b.ic_chunks * b.ic_chunk;
  return {index, oc, min(b.oc_chunk, conv.shape.oc - oc), ic, min(b.ic_chunk, conv.shape.ic - ic)};
}

// A block is packed panel by panel, [kTaps, channels, kTileCols] of kTileCols output and a few input channels:
// body(oc within the block, ic within the block, input channels, floats of the block before this panel).
template <int Taps, typename Body>
void for_each_panel(const WinogradWeightBlock& block, Body body) {
  for (int64_t o = 0; o < block.ocs; o += kTileCols)
    for (int64_t i = 0; i < block.ics; i += kWinogradPanel)
      body(o, i, min(kWinogradPanel, block.ics - i), Taps * (o * block.ics + i * kTileCols));
}

template <int Window, typename T>
void winograd_pack_panel(const Conv2dWinograd<T>& conv, const WinogradWeightBlock& block, int64_t o, int64_t i,
                         int64_t channels, float* panel) {
  const View4d<const T>& w = conv.weight;
  const T* source = w.data + (block.oc + o) * w.n + (block.ic + i) * w.c;
  pack_weight_panel(w, source, Window, Window, channels, min(kTileCols, block.ocs - o), panel);
}

template <typename W, typename T>
void conv2d_winograd_pack_weight(const Conv2dWinograd<T>& conv, int64_t index, float* packed, float*) {
  const WinogradWeightBlock block = winograd_weight_block(conv, index);
  packed += index * conv.block_floats();
  for_each_panel<W::kTaps>(block, [&](int64_t o, int64_t i, int64_t channels, int64_t before) {
    winograd_pack_panel<W::kWindow>(conv, block, o, i, channels, packed + before);
  });
}

// Asks for a part of a panel's weights, of one output channel, or of one input channel where those are further apart:
// they lie in short runs, which hardware prefetchers do not follow. (Always inlined: gcc takes a function that only
// prefetches for one without effect.)
template <int Window, typename T>
[[gnu::always_inline]] inline void winograd_prefetch(const View4d<const T>& w, int64_t oc, int64_t ic, int64_t part) {
  constexpr int kCacheLine = 16;  // of floats
  const bool rotated = w.c > w.n, taps_inside = w.w == 1 || w.w == -1;
  const T* source = w.data + oc * w.n + ic * w.c + part * max(w.n, w.c);
  if (part >= (rotated ? kWinogradPanel : kTileCols)) return;
#pragma GCC unroll 25
  for (int tap = 0; tap < Window * Window; ++tap) {
    const T* place = taps_inside && !rotated ? source + tap * kWinogradPanel
                     : taps_inside           ? source + 1 - Window * Window + 2 * tap * kCacheLine
                                             : source + tap / Window * w.h + tap % Window * w.w;
    __builtin_prefetch(place, 0, 2);
    if (rotated) __builtin_prefetch(place + kCacheLine, 0, 2);
  }
}

// -> weights [points, oc panel, ics, kTileCols]
template <typename W, typename T>
void winograd_transform_weight(const Conv2dWinograd<T>& conv, const WinogradWeightBlock& block, float* transformed,
                               float* scratch) {
  const int64_t point = conv.blocking.weight_floats;
  for_each_panel<W::kTaps>(block, [&](int64_t o, int64_t i, int64_t channels, int64_t before) {
    const float* panel = scratch;
    if (conv.packed_weight)
      panel = conv.packed_weight + block.index * conv.block_floats() + before;
    else
      winograd_pack_panel<W::kWindow>(conv, block, o, i, channels, scratch);
    const int64_t size = channels * kTileCols;
    float* u = transformed + o * block.ics + i * kTileCols;
    // Packed weights follow one another, also from one block of a chunk of output channels to the next.
    const View4d<const float> packed{panel + W::kTaps * size, W::kTaps * kLanes, 0, W::kWindow * kLanes, kLanes};
    const int64_t next = min(block.ic + i + kWinogradPanel, max(conv.shape.ic - kWinogradPanel, 0));
    for (int64_t at = 0, step = 0; at < size; at += kLanes, ++step) {
      if (conv.packed_weight)
        winograd_prefetch<W::kWindow>(packed, 0, 0, step);
      else
        winograd_prefetch<W::kWindow>(conv.weight, block.oc + o, next, step);
      const TileView<const float> from{panel + at, W::kWindow * size, size};
      const TileView<float> to{u + at, W::kPatch * point, point};
      conv.transformed_weight&& conv.shared ? transform_2d<W::kWindow, W::kPatch>(W::kWeight, from, to, kStoreFar)
                                            : transform_2d<W::kWindow, W::kPatch>(W::kWeight, from, to, kStore);
    }
  });
}

template <typename W, typename T>
void conv2d_winograd_transform_weight(const Conv2dWinograd<T>& conv, int64_t index, float* scratch) {
  winograd_transform_weight<W>(conv, winograd_weight_block(conv, index),
                               conv.transformed_weight + index * conv.blocking.transformed_floats(), scratch);
}

}  // namespace
}  // namespace convkit
