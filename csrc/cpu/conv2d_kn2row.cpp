#include "cpu/conv2d_kn2row.h"

#include "cpu/chunks.h"
#include "cpu/conv2d_phases.h"
#include "cpu/conv2d_tasks.h"
#include "cpu/isa.h"

namespace convkit {

Conv2dKn2rowBlocking conv2d_kn2row_blocking(const Conv2dShape& s, const Conv2dKn2rowKernels& kernels) {
  // Output rows of a task, in terms of those input rows that it shares with the next one; and its sums, which stay in
  // L2.
  constexpr int64_t kRows = 16, kSharedRows = 8, kSumFloats = 1 << 16;
  Conv2dKn2rowBlocking b;
  b.left = max((s.kw - 1) * s.dilation_w - s.pad_left, 0);
  b.sum_width = b.left + max(s.ow, s.iw + s.pad_left);
  const int64_t limit = min(max(kRows, kSharedRows * (s.kh - 1) * s.dilation_h), kSumFloats / (s.oc * b.sum_width));
  const Chunks rows = cut(s.oh, max(limit, 1), 1);
  b.rows = rows.size, b.row_bands = rows.number;
  b.product_rows = s.kh * s.kw * s.oc;
  b.weight_floats = round_up(b.product_rows * s.ic, 16);
  b.pixel_floats = s.ic * kernels.tile_cols;
  b.product_floats = b.product_rows * kernels.tile_cols;
  b.sum_floats = round_up(s.oc * b.rows * b.sum_width, 16);
  return b;
}

void conv2d_kn2row(const Conv2dShape& shape, const View4d<const float>& input, const View4d<const float>& weight,
                   const float* bias, Activation activation, const View4d<float>& output) {
  const Conv2dKn2rowKernels& kernel = kernels().conv2d_kn2row;
  const auto blocking = conv2d_kn2row_blocking(shape, kernel);
  run_tasks(Conv2dKn2row{shape, blocking, input, weight, bias, output, activation}, kernel.forward);
}

void conv2d_kn2row_backward_input(const Conv2dShape& s, const View4d<const float>& grad_output,
                                  const View4d<const float>& weight, const View4d<float>& grad_input) {
  for_each_phase<float>(s, weight, grad_input,
                        [&](const Conv2dShape& phase, const View4d<const float>& rotated, const View4d<float>& pixels) {
                          conv2d_kn2row(phase, grad_output, rotated, nullptr, Activation::kNone, pixels);
                        });
}

}  // namespace convkit
