#include "common/conv2d_select.h"

namespace convkit {
namespace {

Conv2dDirection parse_direction(const std::string& direction) {
  if (direction == "backward_input") return Conv2dDirection::kBackwardInput;
  if (direction == "backward_weight") return Conv2dDirection::kBackwardWeight;
  return Conv2dDirection::kForward;
}

ScalarType parse_dtype(const std::string& dtype) {
  if (dtype == "float32") return ScalarType::Float;
  if (dtype == "float64") return ScalarType::Double;
  return dtype == "bfloat16" ? ScalarType::BFloat16 : ScalarType::Half;
}

std::string reason(const Conv2dCandidate& candidate, const Conv2dProblem& problem, const std::string& algorithm) {
  if (const std::string refusal = candidate.refuse(problem); !refusal.empty()) return refusal;
  if (algorithm != "auto") return "another one was asked for";
  const std::string avoidance = candidate.avoid(problem);
  return avoidance.empty() ? "an earlier choice serves" : avoidance;
}

}  // namespace

Conv2dAlgorithm conv2d_select(const char* op, Conv2dCandidates candidates, const Conv2dProblem& problem,
                              const std::string& algorithm) {
  for (const Conv2dCandidate& candidate : candidates) {
    if (algorithm == candidate.name) {
      const std::string refusal = candidate.refuse(problem);
      CONVKIT_CHECK(refusal.empty(), op, ": algorithm='", algorithm, "' cannot be used: ", refusal);
      return candidate.algorithm;
    }
    if (algorithm == "auto" && candidate.refuse(problem).empty() && candidate.avoid(problem).empty())
      return candidate.algorithm;
  }
  std::string names;
  for (const Conv2dCandidate& candidate : candidates) names += concat(", '", candidate.name, "'");
  throw std::invalid_argument(concat(op, ": algorithm must be one of 'auto'", names, ", but got '", algorithm, "'"));
}

Conv2dProblem parse_problem(const std::string& direction, const Conv2dShape& shape, const std::string& dtype) {
  return {parse_direction(direction), shape, parse_dtype(dtype)};
}

Conv2dPlan plan_of(Conv2dCandidates candidates, Conv2dAlgorithm chosen, const Conv2dProblem& problem,
                   const std::string& algorithm) {
  Conv2dPlan plan;
  for (const Conv2dCandidate& candidate : candidates) {
    if (candidate.algorithm == chosen)
      plan.algorithm = candidate.name;
    else
      plan.passed_over.emplace_back(candidate.name, reason(candidate, problem, algorithm));
  }
  return plan;
}

}  // namespace convkit
