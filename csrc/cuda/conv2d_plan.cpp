#include "cuda/conv2d_plan.h"

#include "cuda/conv2d_select.h"

namespace convkit::cuda {

Conv2dPlan conv2d_plan(const std::string& direction, const Conv2dShape& shape, const std::string& dtype,
                       const std::string& algorithm) {
  const Conv2dCandidates candidates = conv2d_candidates(parse_problem(direction, shape, dtype));
  return plan_of(candidates, conv2d_select("explain", candidates, algorithm), algorithm);
}

}  // namespace convkit::cuda
