// The depthwise convolution between op and kernel: what a call is cut into. See conv2d_depthwise.inl for the loops.
#pragma once

#include "common/activation.h"
#include "common/conv2d_shape.h"
#include "cpu/kernels/by_dtype.h"

namespace convkit {

// Where the numbers of a vector are: in channels_last, channels of a pixel, as they lie or after a copy (packed), or
// columns of a plane.
enum class DepthwiseLayout { kChannelsLast, kPacked, kPlanes };

// How one call is cut: into tasks over images, bands of output rows and chunks of channels. A function of shape and
// vector width (csrc/cpu/conv2d_depthwise.cpp).
struct Conv2dDepthwiseBlocking {
  DepthwiseLayout layout;
  int64_t channels, channel_chunks;
  int64_t rows, row_bands;
  int64_t row;             // output columns, rounded up to whole vectors
  int64_t band_h, band_w;  // input rows, and columns of one stride phase, that a band of rows reads
  // Of backward_weight: pixels whose products are added one after the other, and to how many tasks the images are
  // dealt, whose sums are added in order.
  int64_t summed, splits;
  // Scratch: the input band of one channel or of packed ones, the band of the gradient, row or band of the output, the
  // weights or sums of a chunk, and where each tap lies in the input band.
  int64_t plane_floats, row_floats, weight_floats, offset_floats;

  int64_t scratch_bytes() const { return (plane_floats + row_floats + weight_floats + offset_floats) * 4; }
};

// T: of input, weight and output; sums are float32.
template <typename T>
struct Conv2dDepthwise {
  Conv2dShape shape;
  Conv2dDepthwiseBlocking blocking;
  View4d<const T> input;
  View4d<const T> weight;
  const float* bias;  // [oc] or null
  View4d<T> output;
  Activation activation;

  int64_t tasks() const { return shape.n * blocking.row_bands * blocking.channel_chunks; }
};

struct Conv2dDepthwiseBackwardWeight {
  Conv2dShape shape;
  Conv2dDepthwiseBlocking blocking;
  View4d<const float> input;
  View4d<const float> grad_output;
  View4d<float> grad_weight;  // of the first split
  int64_t split_stride;       // from one split's sums to the next's

  int64_t tasks() const { return blocking.splits * blocking.channel_chunks; }
};

template <typename T>
struct Conv2dDepthwiseFunctions {
  void (*forward)(const Conv2dDepthwise<T>& conv, int64_t task, float* scratch);
  // Of a window of 3x3, two apart: see conv2d_depthwise_backward_input_shape.
  void (*backward_input_by_twos)(const Conv2dDepthwise<T>& conv, int64_t task, float* scratch);
};

struct Conv2dDepthwiseKernels {
  int lanes;
  int tile_pixels, tile_cols;  // of channels in the lanes
  int plane_tile_pixels;       // of a plane
  ByDtype<Conv2dDepthwiseFunctions> of;
  void (*backward_weight)(const Conv2dDepthwiseBackwardWeight& conv, int64_t task, float* scratch);
};

}  // namespace convkit
