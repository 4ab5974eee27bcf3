#include "cpu/conv2d_grouped.h"

#include "cpu/chunks.h"
#include "cpu/conv2d_phases.h"
#include "cpu/conv2d_pointwise.h"
#include "cpu/conv2d_tasks.h"
#include "cpu/isa.h"

namespace convkit {
namespace {

// Output pixels of a task: enough that the rows which bands share are few. A gradient of the weight sums up no more in
// a register.
constexpr int64_t kBandPixels = 800, kWeightBandPixels = 400;

bool goes_by_twos(const Conv2dShape& s) {
  return s.kw == 3 && s.stride_w == 2 && s.dilation_h == 1 && s.dilation_w == 1;
}

// Weights that several tasks need are packed once for all of them.
void run_packed(Conv2dGrouped& conv, void (*kernel)(const Conv2dGrouped&, int64_t, float*)) {
  if (conv.tasks() == conv.blocking.vectors) return run_tasks(conv, kernel);
  const int64_t bytes = conv.weight_blocks() * conv.block_floats() * 4;
  float* const packed = static_cast<float*>(shared_workspace(bytes));
  CONVKIT_CHECK(packed, "conv2d: no memory for ", bytes, " bytes of workspace");
  pack_blocks(conv, kernels().conv2d_grouped.pack_weight, packed);
  conv.packed_weight = packed;
  run_tasks(conv, kernel);
}

}  // namespace

Conv2dGroupedBlocking conv2d_grouped_blocking(const Conv2dShape& s, const Conv2dGroupedKernels& kernels,
                                              Conv2dDirection direction) {
  constexpr int64_t kMinTasks = 32;  // work for many threads where there are few groups
  const bool backward_weight = direction == Conv2dDirection::kBackwardWeight;
  const int64_t pixels = backward_weight ? kWeightBandPixels : kBandPixels;
  Conv2dGroupedBlocking b;
  b.vector_groups = min(kernels.lanes / max(s.group_ic(), s.group_oc()), s.groups);
  b.vectors = ceil_div(s.groups, b.vector_groups);
  const bool fours = s.group_ic() % 4 == 0 && s.group_oc() % 4 == 0;
  b.input = b.vector_groups == 1 ? GroupedInput::kScalars : fours ? GroupedInput::kFours : GroupedInput::kVectors;
  b.pixel_floats = s.group_ic() * (b.vector_groups == 1 ? 1 : fours ? kernels.lanes / 4 : kernels.lanes);
  const Chunks cols = cut(s.ow, pixels, kernels.tile_pixels);
  b.cols = cols.size, b.col_bands = cols.number;
  const Chunks rows = cut(s.oh, max(pixels / b.cols, 1), 1);
  b.rows = rows.size, b.row_bands = rows.number;
  b.band_h = (b.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  b.band_w = (b.cols - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1;
  b.splits = clamp(ceil_div(kMinTasks, b.vectors), 1, max(s.n * b.row_bands * b.col_bands, 1));
  b.input_floats = round_up(b.band_w * (b.band_h * b.pixel_floats + kernels.lanes), 16);
  b.output_floats = b.rows * b.cols * kernels.lanes;
  b.weight_floats = s.group_ic() * s.kh * s.kw * kernels.lanes;
  return b;
}

void conv2d_grouped(const Conv2dShape& shape, const View4d<const float>& input, const View4d<const float>& weight,
                    int64_t weight_group_stride, const View4d<float>& output, const Conv2dEpilogue<float>& epilogue) {
  const Conv2dGroupedKernels& kernel = kernels().conv2d_grouped;
  Conv2dGrouped conv{.shape = shape,
                     .input = input,
                     .weight = weight,
                     .weight_group_stride = weight_group_stride,
                     .bias = epilogue.bias,
                     .output = output,
                     .activation = epilogue.activation};
  drop_skipped_pixels(conv.shape, conv.input);
  join_rows(conv.shape, conv.input, output);
  conv.blocking = conv2d_grouped_blocking(conv.shape, kernel, Conv2dDirection::kForward);
  run_packed(conv, kernel.forward);
}

Conv2dShape conv2d_grouped_backward_input_shape(const Conv2dShape& s) {
  if (!goes_by_twos(s)) return largest_phase(s);
  return {s.n, s.oc, s.oh, s.ow, s.ic, s.ih, s.iw, s.kh, s.kw, 1, 1, s.pad_top, s.pad_left, 1, 1, s.groups};
}

void conv2d_grouped_backward_input(const Conv2dShape& s, const View4d<const float>& grad_output,
                                   const View4d<const float>& weight, const View4d<float>& grad_input) {
  const int64_t weight_group_stride = s.group_oc() * weight.n;
  if (goes_by_twos(s)) {
    const Conv2dGroupedKernels& kernel = kernels().conv2d_grouped;
    const Conv2dShape shape = conv2d_grouped_backward_input_shape(s);
    Conv2dGrouped conv{.shape = shape,
                       .blocking = conv2d_grouped_blocking(shape, kernel, Conv2dDirection::kBackwardInput),
                       .input = grad_output,
                       .weight = {weight.data, weight.c, weight.n, weight.h, weight.w},
                       .weight_group_stride = weight_group_stride,
                       .bias = nullptr,
                       .output = grad_input,
                       .activation = Activation::kNone};
    conv.shape.stride_h = s.stride_h, conv.shape.stride_w = s.stride_w;
    return run_packed(conv, kernel.backward_input_by_twos);
  }
  for_each_phase<float>(s, weight, grad_input,
                        [&](const Conv2dShape& phase, const View4d<const float>& rotated, const View4d<float>& pixels) {
                          conv2d_grouped(phase, grad_output, rotated, weight_group_stride, pixels, {});
                        });
}

void conv2d_grouped_backward_weight(const Conv2dShape& shape, const View4d<const float>& input,
                                    const View4d<const float>& grad_output, const View4d<float>& grad_weight) {
  const Conv2dGroupedKernels& kernel = kernels().conv2d_grouped;
  Conv2dGroupedBackwardWeight conv{.shape = shape,
                                   .input = input,
                                   .grad_output = grad_output,
                                   .grad_weight = grad_weight,
                                   .split_stride = shape.oc * shape.group_ic() * shape.kh * shape.kw};
  drop_skipped_pixels(conv.shape, conv.input);
  join_rows(conv.shape, conv.input, grad_output);
  conv.blocking = conv2d_grouped_blocking(conv.shape, kernel, Conv2dDirection::kBackwardWeight);
  run_split_tasks(conv, kernel.backward_weight);
}

}  // namespace convkit
