// The direct convolution between op and kernel: what a call is cut into. See conv2d_direct.inl for the loops.
#pragma once

#include "common/activation.h"
#include "common/conv2d_shape.h"
#include "common/pool2d_shape.h"
#include "cpu/kernels/by_dtype.h"

namespace convkit {

// Products that are summed one after the other: longer chains of float32 additions lose accuracy.
constexpr int64_t kConv2dChain = 512;

// Where a task adds up its sums: in a channels_last output itself; in scratch, which is then pooled or transposed; or
// in the planes of a contiguous output, by the turned tile of conv2d_planes.inl.
enum class Conv2dSums { kInPlace, kScratch, kPlanes };

// How one call is cut: into tasks over images, groups, bands of the output and chunks of output channels, and inside a
// task into chunks of input channels. Packed weights depend on the chunks, and those on the weight's shape alone. A
// function of shape and tile size alone (csrc/cpu/conv2d_blocking.cpp).
struct Conv2dBlocking {
  int64_t ic_chunk, ic_chunks;  // kh * kw * ic_chunk products are added to the output at a time
  int64_t oc_chunk, oc_chunks;  // a multiple of the tile's columns, except where a group has fewer
  int64_t oc_part, oc_parts;    // what a task owns: a chunk or an equal part of one
  int64_t rows, row_bands;      // output rows of a task
  int64_t cols, col_bands;      // output columns of a task
  int64_t band_h, band_w;       // input rows and columns that such a task reads
  // bfloat16 of few channels: what each output column meets in an input row lies side by side in the packed band.
  bool row_patches;
  Conv2dSums sums;
  // Its scratch; output_floats is 0 where it writes in place, pooled_floats where nothing is pooled.
  int64_t input_floats, weight_floats, output_floats, pooled_floats;

  int64_t scratch_bytes() const { return (input_floats + weight_floats + output_floats + pooled_floats) * 4; }
};

// Max-pooling of a task's band while it is in cache; the convolution's own output is then never stored.
template <typename T>
struct Conv2dPool {
  Pool2dShape shape;  // of the whole output; its windows do not overlap and have no padding along the height
  View4d<T> output;
  uint8_t* taps;   // with the output's strides, or null
  bool relu_taps;  // mark the taps of values <= 0 as dead
};

template <typename T>
struct Conv2dDirect {
  Conv2dShape shape;
  Conv2dBlocking blocking = {};
  View4d<const T> input = {};
  View4d<const T> weight = {};
  int64_t weight_group_stride = 0;       // from one group's weights to the next's
  const float* packed_weight = nullptr;  // what pack_weight made of it, block after block, or null
  const float* bias = nullptr;           // [oc] or null
  View4d<T> output = {};
  Activation activation = Activation::kNone;
  const Conv2dPool<T>* pool = nullptr;  // or null; then `output` is not used

  int64_t tasks() const { return shape.n * shape.groups * blocking.row_bands * blocking.col_bands * blocking.oc_parts; }
  // A block of packed weights: a chunk of a group's output channels x a chunk of its input channels.
  int64_t weight_blocks() const { return shape.groups * blocking.oc_chunks * blocking.ic_chunks; }
  int64_t block_floats() const { return blocking.weight_floats; }
};

// What a tile of the gradient of the weight is: input channels x output channels of one tap; the weights of all taps x
// output channels; or, with output columns in the lanes, output channels x the weights of all taps.
enum class BackwardWeightTile { kTap, kAllTaps, kPlanes };

// The gradient of the weight: the reduction runs over pixels, in bands of `rows` x `cols` output pixels.
struct Conv2dBackwardWeightBlocking {
  int64_t ic_chunk, ic_chunks, oc_chunk, oc_chunks;
  int64_t rows, row_bands, cols, col_bands;
  int64_t band_h, band_w;  // input rows, and columns of one stride phase
  int64_t splits;          // the bands of all images are dealt to this many tasks, whose sums are added in order
  BackwardWeightTile tile;
  int64_t input_floats, grad_floats, table_floats, sum_floats;  // its scratch

  int64_t scratch_bytes() const { return (input_floats + grad_floats + table_floats + 2 * sum_floats) * 4; }
};

struct Conv2dBackwardWeight {
  Conv2dShape shape;
  Conv2dBackwardWeightBlocking blocking = {};
  View4d<const float> input;
  View4d<const float> grad_output;
  View4d<float> grad_weight;  // of the first split
  int64_t split_stride;       // from one split's sums to the next's

  int64_t tasks() const { return blocking.splits * shape.groups * blocking.ic_chunks * blocking.oc_chunks; }
};

template <typename T>
struct Conv2dDirectFunctions {
  void (*forward)(const Conv2dDirect<T>& conv, int64_t task, float* scratch);
  void (*pack_weight)(const Conv2dDirect<T>& conv, int64_t block, float* packed, float* scratch);
};

struct Conv2dDirectKernels {
  int tile_rows, tile_cols;           // pixels x output channels of the register tile
  int planes_channels;                // output channels of the tile of backward_weight_planes
  ByDtype<Conv2dDirectFunctions> of;  // of bfloat16 only where the ISA multiplies pairs of it
  void (*backward_weight)(const Conv2dBackwardWeight& conv, int64_t task, float* scratch);
  void (*backward_weight_planes)(const Conv2dBackwardWeight& conv, int64_t task, float* scratch);
};

}  // namespace convkit
