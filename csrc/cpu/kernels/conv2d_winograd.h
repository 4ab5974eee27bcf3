// The Winograd convolution between op and kernel: what a call is cut into. See conv2d_winograd.inl for the loops.
#pragma once

#include "cpu/kernels/conv2d_direct.h"

namespace convkit {

constexpr int kWinogradPanel = 16;  // input channels whose weights are packed side by side: they stay in L1
constexpr int kWinogradPart = 16;   // tiles whose patches a task transforms for others

// Which F(tile x tile, window x window): output pixels of a tile and taps of a window, in each dimension.
struct WinogradSizes {
  int64_t tile, window;

  int64_t patch() const { return tile + window - 1; }  // input pixels that a tile reads, in each dimension
  int64_t points() const { return patch() * patch(); }
  int64_t taps() const { return window * window; }
};

// How one call is cut: into tasks over blocks of tiles, which may belong to several images, and chunks of output
// channels; inside a task into chunks of input channels, which alone decide the order of additions. A function of shape
// and tile size (csrc/cpu/conv2d_winograd.cpp).
struct Conv2dWinogradBlocking : WinogradSizes {
  int64_t tiles_h, tiles_w;    // of an image
  int64_t tiles, tile_blocks;  // of a task
  int64_t ic_chunk, ic_chunks;
  int64_t oc_chunk, oc_chunks;
  int64_t run;  // tiles side by side that are transformed together
  // Blocks of tiles whose patches are transformed before their tasks run. 0: a task transforms its own, and computes
  // all chunks of output channels.
  int64_t stage;
  bool transform_first;   // all weights are transformed before tasks run
  int64_t packed_floats;  // of a block of weights that are packed, not transformed
  // What one point of the transformed input, weights and sums takes; the packed input or output of a run, with its
  // pooled row; some weights before they are transformed.
  int64_t input_floats, weight_floats, sum_floats;
  int64_t run_floats, panel_floats;

  int64_t transformed_floats() const { return points() * weight_floats; }       // of a block of weights
  int64_t patch_floats() const { return points() * input_floats * ic_chunks; }  // of a block of tiles
  int64_t scratch_bytes() const {
    const int64_t own_patches = stage == 0 ? patch_floats() : 0, own_weight = transform_first ? 0 : weight_floats;
    return (own_patches + points() * (own_weight + sum_floats) + run_floats + panel_floats) * 4;
  }
};

// T: of input, weight and output; all else is float32.
template <typename T>
struct Conv2dWinograd {
  Conv2dShape shape;
  Conv2dWinogradBlocking blocking = {};
  View4d<const T> input = {};
  View4d<const T> weight = {};
  const float* packed_weight = nullptr;  // what pack_weight made of it, block after block, or null
  float* transformed_weight = nullptr;   // what transform_weight makes of it, block after block, or null
  float* patches = nullptr;              // what transform_input makes of the stage, block after block, or null
  int64_t first_block = 0, blocks = 0;   // of tiles: those of the stage
  bool shared = false;                   // other threads read what one has transformed
  const float* bias = nullptr;           // [oc] or null
  View4d<T> output = {};
  Activation activation = Activation::kNone;
  const Conv2dPool<T>* pool = nullptr;  // or null; then `output` is not used; its windows lie within tiles

  int64_t task_oc_chunks() const { return blocking.stage == 0 ? blocking.oc_chunks : 1; }
  int64_t tasks() const { return blocks * (blocking.oc_chunks / task_oc_chunks()); }
  // A part of a block of tiles x a chunk of input channels.
  int64_t input_tasks() const { return blocks * parts() * blocking.ic_chunks; }
  int64_t parts() const { return (blocking.tiles + kWinogradPart - 1) / kWinogradPart; }
  // A block of weights, packed or transformed: a chunk of output channels x a chunk of input channels.
  int64_t weight_blocks() const { return blocking.oc_chunks * blocking.ic_chunks; }
  int64_t block_floats() const { return blocking.packed_floats; }
};

// The gradient of the weight: the products are summed over tiles, a block of `tiles` at a time.
struct Conv2dWinogradBackwardWeightBlocking : WinogradSizes {
  int64_t tiles_h, tiles_w;    // of an image
  int64_t tiles, tile_blocks;  // of all images
  int64_t ic_chunk, ic_chunks, oc_chunk, oc_chunks;
  int64_t run;
  int64_t splits;  // the blocks are dealt to this many tasks, whose sums are added in order
  // Scratch: what one point of the transformed input, gradient and sums takes; a run's pixels or the task's weights.
  int64_t input_floats, grad_floats, sum_floats, run_floats;

  int64_t scratch_bytes() const { return (points() * (input_floats + grad_floats + sum_floats) + run_floats) * 4; }
};

struct Conv2dWinogradBackwardWeight {
  Conv2dShape shape;
  Conv2dWinogradBackwardWeightBlocking blocking;
  View4d<const float> input = {};
  View4d<const float> grad_output = {};
  View4d<float> grad_weight = {};  // of the first split
  int64_t split_stride = 0;        // from one split's sums to the next's

  int64_t tasks() const { return blocking.splits * blocking.ic_chunks * blocking.oc_chunks; }
};

template <typename T>
struct Conv2dWinogradFunctions {
  void (*transform_input)(const Conv2dWinograd<T>& conv, int64_t task, float* scratch);
  void (*forward)(const Conv2dWinograd<T>& conv, int64_t task, float* scratch);
  void (*pack_weight)(const Conv2dWinograd<T>& conv, int64_t block, float* packed, float* scratch);
  void (*transform_weight)(const Conv2dWinograd<T>& conv, int64_t block, float* scratch);
};

struct Conv2dWinogradVariant {
  ByDtype<Conv2dWinogradFunctions> of;
  void (*backward_weight)(const Conv2dWinogradBackwardWeight& conv, int64_t task, float* scratch);
};

struct Conv2dWinogradKernels {
  int lanes, tile_rows, tile_cols;
  Conv2dWinogradVariant f4x3, f2x3, f2x5;  // tile x window

  const Conv2dWinogradVariant& variant(const WinogradSizes& s) const {
    return s.window == 5 ? f2x5 : s.tile == 2 ? f2x3 : f4x3;
  }
};

}  // namespace convkit
