#include "cuda/conv2d_plan.h"

#include "cuda/conv2d_select.h"

namespace convkit::cuda {

Conv2dPlan conv2d_plan(const std::string& direction, const Conv2dShape& shape, const std::string& dtype,
                       const std::string& algorithm) {
  Conv2dProblem problem = parse_problem(direction, shape, dtype);
  const Conv2dAlgorithm chosen = select_algorithm("explain", problem, algorithm);
  const std::string name = follow_precision(problem, algorithm);
  return plan_of(conv2d_candidates(), chosen, problem, name);
}

}  // namespace convkit::cuda
