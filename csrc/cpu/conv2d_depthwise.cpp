#include "cpu/conv2d_depthwise.h"

#include "cpu/chunks.h"
#include "cpu/conv2d_phases.h"
#include "cpu/conv2d_tasks.h"
#include "cpu/isa.h"
#include "cpu/workspace.h"

namespace convkit {
namespace {

// Output numbers of a task: enough that decoding it is small beside it.
constexpr int64_t kTaskNumel = 32768;
// Channels of a task. In channels_last, the rows that the windows of two output rows share stay in L1: 728 channels at
// 19x19 take 1.27 of torch's speed, 0.98 with 512; 1,536 at 10x10 1.46 and 1.19 (one thread of an AMD Zen 5).
constexpr int64_t kChannels = 64, kChannelsLast = 128;
// Pixels of a packed band of a plane: they stay in L1, and a gradient of the weight sums up no more in a register.
constexpr int64_t kBandPixels = 2048;

template <typename T>
bool is_channels_last(const Conv2dShape& s, const View4d<const float>& x, const View4d<T>& y,
                      const Conv2dDepthwiseKernels& kernels) {
  return x.c == 1 && y.c == 1 && s.oc >= kernels.lanes;
}

Conv2dDepthwiseBlocking blocking_of(const Conv2dShape& s, const Conv2dDepthwiseKernels& kernels,
                                    Conv2dDirection direction, bool channels_last, bool packed) {
  constexpr int64_t kMinTasks = 32;  // work for many threads where there are few channels
  Conv2dDepthwiseBlocking b;
  b.channels_last = channels_last;
  b.packed = packed;
  const bool whole_pixels = channels_last && direction != Conv2dDirection::kBackwardWeight;
  const Chunks channels = cut(s.oc, b.packed ? kernels.lanes : whole_pixels ? kChannelsLast : kChannels, kernels.lanes);
  b.channels = channels.size, b.channel_chunks = channels.number;
  b.row = round_up(s.ow, kernels.lanes);
  const int64_t rows_limit = min(kBandPixels / b.row, kTaskNumel / (b.row * b.channels));
  const Chunks rows = cut(s.oh, max(rows_limit, 1), 1);
  b.rows = rows.size, b.row_bands = rows.number;
  b.band_h = (b.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  b.band_w = b.row + (s.kw - 1) * s.dilation_w / s.stride_w;
  b.splits = clamp(ceil_div(kMinTasks, b.channel_chunks), 1, max(s.n, 1));
  const int64_t taps = s.kh * s.kw;
  b.plane_floats = round_up(b.band_h * s.stride_w * b.band_w, 16);
  b.row_floats = b.rows * b.row;
  if (b.packed) {
    b.plane_floats = b.band_h * s.iw * b.channels;
    b.row_floats = b.rows * s.ow * b.channels;
  }
  b.weight_floats = round_up(2 * taps * b.channels, 16);
  b.offset_floats = 2 * taps;
  return b;
}

}  // namespace

Conv2dDepthwiseBlocking conv2d_depthwise_blocking(const Conv2dShape& s, const Conv2dDepthwiseKernels& kernels,
                                                  Conv2dDirection direction, bool channels_last) {
  // Rows too long to be packed go plane by plane.
  const bool row_fits = s.iw <= kWorkspaceLimit / 4 / kernels.lanes;
  if (!channels_last && direction != Conv2dDirection::kBackwardWeight && s.oc >= kernels.lanes && row_fits) {
    const Conv2dDepthwiseBlocking b = blocking_of(s, kernels, direction, false, true);
    if (b.scratch_bytes() <= kWorkspaceLimit) return b;
  }
  return blocking_of(s, kernels, direction, channels_last, false);
}

void conv2d_depthwise(const Conv2dShape& shape, const View4d<const float>& input, const View4d<const float>& weight,
                      const float* bias, Activation activation, const View4d<float>& output) {
  const Conv2dDepthwiseKernels& kernel = kernels().conv2d_depthwise;
  const auto blocking = conv2d_depthwise_blocking(shape, kernel, Conv2dDirection::kForward,
                                                  is_channels_last(shape, input, output, kernel));
  run_tasks(Conv2dDepthwise{shape, blocking, input, weight, bias, output, activation}, kernel.forward);
}

void conv2d_depthwise_backward_input(const Conv2dShape& s, const View4d<const float>& grad_output,
                                     const View4d<const float>& weight, const View4d<float>& grad_input) {
  for_each_phase<float>(s, weight, grad_input,
                        [&](const Conv2dShape& phase, const View4d<const float>& rotated, const View4d<float>& pixels) {
                          const View4d<const float> of_channel{rotated.data, rotated.c, rotated.n, rotated.h,
                                                               rotated.w};
                          conv2d_depthwise(phase, grad_output, of_channel, nullptr, Activation::kNone, pixels);
                        });
}

void conv2d_depthwise_backward_weight(const Conv2dShape& shape, const View4d<const float>& input,
                                      const View4d<const float>& grad_output, const View4d<float>& grad_weight) {
  const Conv2dDepthwiseKernels& kernel = kernels().conv2d_depthwise;
  const auto blocking = conv2d_depthwise_blocking(shape, kernel, Conv2dDirection::kBackwardWeight,
                                                  is_channels_last(shape, input, grad_output, kernel));
  run_split_tasks(
      Conv2dDepthwiseBackwardWeight{shape, blocking, input, grad_output, grad_weight, shape.oc * shape.kh * shape.kw},
      kernel.backward_weight);
}

}  // namespace convkit
