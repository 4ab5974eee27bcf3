#include "cuda/conv2d_plan.h"

#include "cuda/conv2d_select.h"

namespace convkit::cuda {

Conv2dPlan conv2d_plan(const std::string& direction, const Conv2dShape& shape, const std::string& dtype,
                       const std::string& algorithm) {
  const Conv2dProblem problem = parse_problem(direction, shape, dtype);
  return plan_of(conv2d_candidates(), select_algorithm("explain", problem, algorithm), problem, algorithm);
}

}  // namespace convkit::cuda
