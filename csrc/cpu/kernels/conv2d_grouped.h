// The grouped convolution of few channels between op and kernel: what a call is cut into. See conv2d_grouped.inl for
// the loops.
#pragma once

#include "common/activation.h"
#include "common/conv2d_shape.h"

namespace convkit {

// How the packed input holds the channels that lanes multiply: as they are, where all lanes belong to one group; in
// every four lanes four neighbouring channels of the group whose outputs those lanes are; or a vector a channel.
enum class GroupedInput { kScalars, kFours, kVectors };

// The output channels in the lanes of one vector are those of some whole groups; a task computes them for a band of
// the output. A function of shape and vector width (csrc/cpu/conv2d_grouped.cpp).
struct Conv2dGroupedBlocking {
  int64_t vector_groups, vectors;  // groups of a vector; vectors for all groups
  GroupedInput input;
  int64_t pixel_floats;     // of the packed input
  int64_t rows, row_bands;  // output rows of a task
  int64_t cols, col_bands;  // output columns of a task
  int64_t band_h, band_w;   // input rows and columns that it reads
  int64_t splits;           // of backward_weight: the bands of all images are dealt to so many tasks
  // Scratch: the input band and a row of it as it is; the output or its gradient, a vector a pixel; the weights
  // of a vector; in backward_weight two sums of them.
  int64_t input_floats, output_floats, weight_floats;

  int64_t scratch_bytes() const { return (input_floats + output_floats + 2 * weight_floats) * 4; }
};

struct Conv2dGrouped {
  Conv2dShape shape;
  Conv2dGroupedBlocking blocking = {};
  View4d<const float> input;
  View4d<const float> weight;
  int64_t weight_group_stride;  // from one group's weights to the next's
  const float* bias;            // [oc] or null
  View4d<float> output;
  Activation activation;
  const float* packed_weight = nullptr;  // [vector, kh, ic, kw, lanes] or null

  int64_t tasks() const { return shape.n * blocking.row_bands * blocking.col_bands * blocking.vectors; }
  int64_t weight_blocks() const { return blocking.vectors; }
  int64_t block_floats() const { return blocking.weight_floats; }
};

struct Conv2dGroupedBackwardWeight {
  Conv2dShape shape;
  Conv2dGroupedBlocking blocking = {};
  View4d<const float> input;
  View4d<const float> grad_output;
  View4d<float> grad_weight;  // of the first split
  int64_t split_stride;       // from one split's sums to the next's

  int64_t tasks() const { return blocking.splits * blocking.vectors; }
};

struct Conv2dGroupedKernels {
  int lanes;  // of a vector; more channels than these in a group are not for these kernels
  int tile_pixels;
  void (*forward)(const Conv2dGrouped& conv, int64_t task, float* scratch);
  // Of a gradient of the input three taps wide, of stride 2 along the width, without dilation.
  void (*backward_input_by_twos)(const Conv2dGrouped& conv, int64_t task, float* scratch);
  void (*pack_weight)(const Conv2dGrouped& conv, int64_t vector, float* packed, float* scratch);
  void (*backward_weight)(const Conv2dGroupedBackwardWeight& conv, int64_t task, float* scratch);
};

}  // namespace convkit
