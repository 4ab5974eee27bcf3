#include "cpu/conv2d_depthwise.h"

#include <utility>

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
// Pixels of a packed band, which stay in L1 or L2.
constexpr int64_t kBandPixels = 2048;
// Pixels whose products are added one after the other for the gradient of the weight.
constexpr int64_t kSummedPixels = 512;

template <typename T>
DepthwiseLayout layout_of(const Conv2dShape& s, const View4d<const T>& x, int64_t output_c, Conv2dDirection direction) {
  return conv2d_depthwise_layout(s, direction, x.c == 1 && output_c == 1, std::is_same_v<T, BFloat16>);
}

// Whether the gradient of the input goes two pixels at a time, and the convolution over grad_output that does.
bool runs_by_twos(const Conv2dShape& s, Conv2dShape& run) {
  run = s;
  std::swap(run.ih, run.oh), std::swap(run.iw, run.ow);
  run.stride_h = run.stride_w = 1;
  return s.kh == 3 && s.kw == 3 && s.stride_h == 2 && s.stride_w == 2 && s.dilation_h == 1 && s.dilation_w == 1 &&
         conv2d_depthwise_layout(run, Conv2dDirection::kBackwardInput, false, false) == DepthwiseLayout::kPacked;
}

}  // namespace

DepthwiseLayout conv2d_depthwise_layout(const Conv2dShape& s, Conv2dDirection direction, bool channels_last,
                                        bool bfloat16) {
  const int64_t lanes = kernels().conv2d_depthwise.lanes;
  if (s.oc < lanes && !bfloat16) return DepthwiseLayout::kPlanes;
  if (channels_last) return DepthwiseLayout::kChannelsLast;
  // Rows too long to be packed go plane by plane.
  const bool row_fits = s.iw <= kWorkspaceLimit / 4 / lanes;
  const auto bytes = [&] { return conv2d_depthwise_blocking(s, direction, DepthwiseLayout::kPacked).scratch_bytes(); };
  return row_fits && bytes() <= kWorkspaceLimit ? DepthwiseLayout::kPacked : DepthwiseLayout::kPlanes;
}

Conv2dDepthwiseBlocking conv2d_depthwise_blocking(const Conv2dShape& s, Conv2dDirection direction,
                                                  DepthwiseLayout layout) {
  constexpr int64_t kMinTasks = 32;  // work for many threads where there are few channels
  const int64_t lanes = kernels().conv2d_depthwise.lanes;
  const bool of_weight = direction == Conv2dDirection::kBackwardWeight;
  const bool planes = layout == DepthwiseLayout::kPlanes, packed = layout == DepthwiseLayout::kPacked;
  Conv2dDepthwiseBlocking b;
  b.layout = layout;
  const Chunks channels = cut(s.oc, packed ? lanes : planes || of_weight ? kChannels : kChannelsLast, lanes);
  b.channels = channels.size, b.channel_chunks = channels.number;
  b.row = round_up(s.ow, lanes);
  const int64_t pixels = of_weight && !planes ? kSummedPixels : kBandPixels;
  const Chunks rows = cut(s.oh, max(min(pixels / b.row, kTaskNumel / (b.row * b.channels)), 1), 1);
  b.rows = rows.size, b.row_bands = rows.number;
  b.band_h = (b.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  b.band_w = b.row + (s.kw - 1) * s.dilation_w / s.stride_w;
  b.summed = pixels;
  b.splits = clamp(ceil_div(kMinTasks, b.channel_chunks), 1, max(s.n, 1));
  const int64_t taps = s.kh * s.kw;
  b.plane_floats = planes ? round_up(b.band_h * s.stride_w * b.band_w, 16) : packed ? b.band_h * s.iw * lanes : 0;
  b.row_floats = planes ? b.rows * b.row : packed ? b.rows * s.ow * lanes : 0;
  b.weight_floats = round_up(3 * taps * b.channels, 16);
  b.offset_floats = 2 * taps;
  return b;
}

Conv2dShape conv2d_depthwise_backward_input_shape(const Conv2dShape& s) {
  Conv2dShape run;
  return runs_by_twos(s, run) ? run : largest_phase(s);
}

template <typename T>
void conv2d_depthwise(const Conv2dShape& shape, const View4d<const T>& input, const View4d<const T>& weight,
                      const float* bias, Activation activation, const View4d<T>& output) {
  constexpr Conv2dDirection kForward = Conv2dDirection::kForward;
  const auto blocking = conv2d_depthwise_blocking(shape, kForward, layout_of(shape, input, output.c, kForward));
  run_tasks(Conv2dDepthwise<T>{shape, blocking, input, weight, bias, output, activation},
            kernels().conv2d_depthwise.of.get<T>().forward);
}

template <typename T>
void conv2d_depthwise_backward_input(const Conv2dShape& s, const View4d<const T>& grad_output,
                                     const View4d<const T>& weight, const View4d<T>& grad_input) {
  constexpr Conv2dDirection kBackward = Conv2dDirection::kBackwardInput;
  if (Conv2dShape run; runs_by_twos(s, run)) {
    const auto blocking =
        conv2d_depthwise_blocking(run, kBackward, layout_of(run, grad_output, grad_input.c, kBackward));
    return run_tasks(Conv2dDepthwise<T>{run, blocking, grad_output, weight, nullptr, grad_input, Activation::kNone},
                     kernels().conv2d_depthwise.of.get<T>().backward_input_by_twos);
  }
  // Cut as the largest phase, which alone conv2d_select looks at: a narrower one could get bands that do not fit.
  const Conv2dShape largest = largest_phase(s);
  auto blocking =
      conv2d_depthwise_blocking(largest, kBackward, layout_of(largest, grad_output, grad_input.c, kBackward));
  for_each_phase<T>(
      s, weight, grad_input, [&](const Conv2dShape& phase, const View4d<const T>& rotated, const View4d<T>& pixels) {
        const View4d<const T> of_channel{rotated.data, rotated.c, rotated.n, rotated.h, rotated.w};
        blocking.row_bands = ceil_div(phase.oh, blocking.rows);
        run_tasks(Conv2dDepthwise<T>{phase, blocking, grad_output, of_channel, nullptr, pixels, Activation::kNone},
                  kernels().conv2d_depthwise.of.get<T>().forward);
      });
}

#define CONVKIT_DEPTHWISE(T)                                                                                        \
  template void conv2d_depthwise(const Conv2dShape&, const View4d<const T>&, const View4d<const T>&, const float*,  \
                                 Activation, const View4d<T>&);                                                     \
  template void conv2d_depthwise_backward_input(const Conv2dShape&, const View4d<const T>&, const View4d<const T>&, \
                                                const View4d<T>&);
CONVKIT_DEPTHWISE(float)
CONVKIT_DEPTHWISE(BFloat16)
#undef CONVKIT_DEPTHWISE

void conv2d_depthwise_backward_weight(const Conv2dShape& shape, const View4d<const float>& input,
                                      const View4d<const float>& grad_output, const View4d<float>& grad_weight) {
  constexpr Conv2dDirection kBackward = Conv2dDirection::kBackwardWeight;
  const auto blocking = conv2d_depthwise_blocking(shape, kBackward, layout_of(shape, input, grad_output.c, kBackward));
  run_split_tasks(
      Conv2dDepthwiseBackwardWeight{shape, blocking, input, grad_output, grad_weight, shape.oc * shape.kh * shape.kw},
      kernels().conv2d_depthwise.backward_weight);
}

}  // namespace convkit
