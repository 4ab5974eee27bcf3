// The end of a convolution whose results are pooled, 2x2, before they are stored.
#pragma once

#include "cuda/conv2d_gemm.h"
#include "cuda/max_pool2d.cuh"

namespace convkit::cuda {

// Stores the maximum of a window's four results and its tap at an offset, as max_pool2d would of the stored results.
template <typename T>
__device__ void store_window(const ConvGemm<T>& p, const T (&results)[4], bool is_first_of_image, int64_t at) {
  Winner<T> winner;
#pragma unroll
  for (int tap = 0; tap < 4; ++tap) winner.offer(results[tap], tap);
  if (winner.tap < 0) winner.tap = p.output_is_channels_last && !is_first_of_image ? -1 : 0;  // see tap_of_none
  p.output.data[at] = winner.value;
  if (p.taps) p.taps[at] = winner.template stored_tap<uint8_t>(p.relu);
}

}  // namespace convkit::cuda
