// The kn2row convolution between op and kernel: what a call is cut into. See conv2d_kn2row.inl for the loops.
#pragma once

#include "common/activation.h"
#include "common/conv2d_shape.h"

namespace convkit {

// How one call is cut: into tasks over images and bands of output rows. A function of the shape alone
// (csrc/cpu/conv2d_kn2row.cpp).
struct Conv2dKn2rowBlocking {
  int64_t rows, row_bands;
  int64_t left;          // columns of a row of sums before the first that exists
  int64_t sum_width;     // columns of a row of sums
  int64_t product_rows;  // of the matrix product: taps x output channels
  // Scratch of a task: its weights; a few pixels and their products; its sums.
  int64_t weight_floats, pixel_floats, product_floats, sum_floats;

  int64_t scratch_bytes() const { return (weight_floats + pixel_floats + product_floats + sum_floats) * 4; }
};

struct Conv2dKn2row {
  Conv2dShape shape;  // of stride 1, one group
  Conv2dKn2rowBlocking blocking;
  View4d<const float> input;
  View4d<const float> weight;
  const float* bias;  // [oc] or null
  View4d<float> output;
  Activation activation;

  int64_t tasks() const { return shape.n * blocking.row_bands; }
};

struct Conv2dKn2rowKernels {
  int tile_rows, tile_cols;  // taps and output channels x pixels of the register tile
  void (*forward)(const Conv2dKn2row& conv, int64_t task, float* scratch);
};

}  // namespace convkit
