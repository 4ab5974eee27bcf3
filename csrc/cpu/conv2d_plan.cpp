#include "cpu/conv2d_plan.h"

#include <utility>

#include "cpu/conv2d_blocking.h"
#include "cpu/conv2d_depthwise.h"
#include "cpu/conv2d_grouped.h"
#include "cpu/conv2d_kn2row.h"
#include "cpu/conv2d_phases.h"
#include "cpu/conv2d_select.h"
#include "cpu/conv2d_winograd.h"
#include "cpu/isa.h"

namespace convkit {

Conv2dPlan conv2d_plan(const std::string& direction, const Conv2dShape& s, const std::string& dtype,
                       const std::string& algorithm, bool channels_last) {
  const Conv2dProblem problem = parse_problem(direction, s, dtype);
  const Conv2dAlgorithm chosen = conv2d_select("explain", problem, algorithm);
  Conv2dPlan plan = plan_of(conv2d_candidates(), chosen, problem, algorithm);
  if (chosen == Conv2dAlgorithm::kGeneric) return plan;
  const bool turned = problem.direction == Conv2dDirection::kBackwardInput;
  if (chosen == Conv2dAlgorithm::kWinograd) {
    const Conv2dWinogradKernels& kernel = kernels().conv2d_winograd;
    plan.tile_rows = kernel.tile_rows, plan.tile_cols = kernel.tile_cols;
    if (problem.direction == Conv2dDirection::kBackwardWeight) {
      const Conv2dWinogradBackwardWeight conv{s, conv2d_winograd_backward_weight_blocking(s, kernel)};
      plan.tasks = conv.tasks();
      plan.workspace_bytes = conv.blocking.scratch_bytes();
      return plan;
    }
    const Conv2dShape run = turned ? winograd_backward_input_shape(s) : s;
    auto conv = conv2d_winograd_packing(run, {});
    conv.blocks = conv.blocking.tile_blocks;
    plan.tasks = conv.tasks();
    plan.workspace_bytes = conv.blocking.scratch_bytes();
    plan.packed_bytes = conv.block_floats() * 4;
    return plan;
  }
  if (chosen == Conv2dAlgorithm::kDepthwise) {
    const Conv2dDepthwiseKernels& kernel = kernels().conv2d_depthwise;
    const Conv2dShape run = turned ? conv2d_depthwise_backward_input_shape(s) : s;
    const bool bfloat16 = problem.dtype == ScalarType::BFloat16;
    const Conv2dDepthwiseBlocking b = conv2d_depthwise_blocking(
        run, problem.direction, conv2d_depthwise_layout(run, problem.direction, channels_last, bfloat16));
    const bool planes = b.layout == DepthwiseLayout::kPlanes;
    plan.tile_rows = planes ? kernel.plane_tile_pixels : kernel.tile_pixels;
    plan.tile_cols = planes ? 1 : kernel.tile_cols;
    plan.tasks = problem.direction == Conv2dDirection::kBackwardWeight
                     ? Conv2dDepthwiseBackwardWeight{run, b, {}, {}, {}, 0}.tasks()
                     : Conv2dDepthwise<float>{run, b, {}, {}, nullptr, {}, Activation::kNone}.tasks();
    plan.workspace_bytes = b.scratch_bytes();
    return plan;
  }
  if (chosen == Conv2dAlgorithm::kGrouped) {
    const Conv2dGroupedKernels& kernel = kernels().conv2d_grouped;
    const Conv2dShape run = turned ? conv2d_grouped_backward_input_shape(s) : s;
    const Conv2dGroupedBlocking b = conv2d_grouped_blocking(run, kernel, problem.direction);
    plan.tile_rows = kernel.tile_pixels, plan.tile_cols = kernel.lanes;
    plan.tasks = problem.direction == Conv2dDirection::kBackwardWeight
                     ? Conv2dGroupedBackwardWeight{run, b, {}, {}, {}, 0}.tasks()
                     : Conv2dGrouped{run, b, {}, {}, 0, nullptr, {}, Activation::kNone}.tasks();
    plan.workspace_bytes = b.scratch_bytes();
    return plan;
  }
  if (chosen == Conv2dAlgorithm::kKn2row) {
    const Conv2dKn2rowKernels& kernel = kernels().conv2d_kn2row;
    const Conv2dShape run = turned ? largest_phase(s) : s;
    const Conv2dKn2rowBlocking b = conv2d_kn2row_blocking(run, kernel);
    plan.tile_rows = kernel.tile_rows, plan.tile_cols = kernel.tile_cols;
    plan.tasks = Conv2dKn2row{run, b, {}, {}, nullptr, {}, Activation::kNone}.tasks();
    plan.workspace_bytes = b.scratch_bytes();
    return plan;
  }
  const Conv2dDirectKernels& kernel = kernels().conv2d_direct;
  plan.tile_rows = kernel.tile_rows, plan.tile_cols = kernel.tile_cols;
  if (problem.direction == Conv2dDirection::kBackwardWeight) {
    const Conv2dBackwardWeight conv{s, conv2d_backward_weight_blocking(s, kernel), {}, {}, {}, 0};
    if (conv.blocking.tile == BackwardWeightTile::kPlanes)
      plan.tile_rows = kernels().vector_floats, plan.tile_cols = kernel.planes_channels;
    plan.tasks = conv.tasks();
    plan.workspace_bytes = conv.blocking.scratch_bytes();
  } else {
    const Conv2dShape run = turned ? largest_phase(s) : s;
    const int64_t step = turned ? s.stride_w : 1;  // between the pixels of a phase
    const View4d<float> output{nullptr, 0, channels_last ? 1 : run.oh * run.ow, 0,
                               channels_last ? step * run.oc : step};
    const bool pairs = problem.dtype == ScalarType::BFloat16 && multiplies_bfloat16_pairs();
    const Conv2dSums sums = pairs ? conv2d_sums(run, View4d<BFloat16>{nullptr, 0, output.c, 0, output.w}, false)
                                  : conv2d_sums(run, output, false);
    const Conv2dBlocking blocking = conv2d_blocking(run, kernel, {.sums = sums, .bfloat16 = pairs});
    plan.tasks = Conv2dDirect<float>{.shape = run, .blocking = blocking}.tasks();
    plan.workspace_bytes = blocking.scratch_bytes();
    plan.packed_bytes = blocking.weight_floats * 4;
    if (sums == Conv2dSums::kPlanes) std::swap(plan.tile_rows, plan.tile_cols);
  }
  return plan;
}

}  // namespace convkit
