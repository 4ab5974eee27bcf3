// Which algorithm computes a convolution, and why not the others. Which there are is the device's: csrc/cpu, csrc/cuda.
#pragma once

#include <span>
#include <string>

#include "common/conv2d_plan.h"
#include "common/tensor.h"

namespace convkit {

enum class Conv2dAlgorithm { kWinograd, kDepthwise, kKn2row, kTf32, kDirect, k3xTf32, kGrouped, kGeneric };
enum class Conv2dDirection { kForward, kBackwardInput, kBackwardWeight };

struct Conv2dProblem {
  Conv2dDirection direction;
  Conv2dShape shape;  // of the forward convolution
  ScalarType dtype;
  bool may_round = false;  // "auto" may round float32 to TF32
};

struct Conv2dCandidate {
  Conv2dAlgorithm algorithm;
  const char* name;
  std::string (*refuse)(const Conv2dProblem&);  // why it cannot serve a problem; empty if it can
  std::string (*avoid)(const Conv2dProblem&);   // why "auto" passes it over although it can; empty if it does not
};

// Every algorithm of a device in order of preference; the last one never refuses.
using Conv2dCandidates = std::span<const Conv2dCandidate>;

// The answer of a predicate that has nothing against any problem.
inline std::string never(const Conv2dProblem&) { return ""; }

// The first candidate with nothing against it ("auto"), or the one named: then a refusal is an error.
Conv2dAlgorithm conv2d_select(const char* op, Conv2dCandidates candidates, const Conv2dProblem& problem,
                              const std::string& algorithm);

// For convkit.explain: `direction` is "forward", "backward_input" or "backward_weight", `dtype` as torch.dtype prints
// it.
Conv2dProblem parse_problem(const std::string& direction, const Conv2dShape& shape, const std::string& dtype);
// The name of the chosen candidate, and why each other one was passed over in a call with `algorithm`.
Conv2dPlan plan_of(Conv2dCandidates candidates, Conv2dAlgorithm chosen, const Conv2dProblem& problem,
                   const std::string& algorithm);

}  // namespace convkit
