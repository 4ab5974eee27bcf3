// Which algorithm computes a convolution, and why not the others. Which there are is the device's: csrc/cpu, csrc/cuda.
#pragma once

#include <string>
#include <vector>

#include "common/conv2d_shape.h"
#include "common/tensor.h"

namespace convkit {

enum class Conv2dAlgorithm { kWinograd, kDepthwise, kDirect, kTf32, k3xTf32, kGeneric };  // TF32: CUDA only
enum class Conv2dDirection { kForward, kBackwardInput, kBackwardWeight };

struct Conv2dProblem {
  Conv2dDirection direction;
  Conv2dShape shape;  // of the forward convolution
  ScalarType dtype;
};

struct Conv2dCandidate {
  Conv2dAlgorithm algorithm;
  const char* name;
  std::string refusal;    // why it cannot serve this problem; empty if it can
  std::string avoidance;  // why "auto" passes it over although it can; empty if it does not

  const std::string& reason_not_auto() const { return refusal.empty() ? avoidance : refusal; }
};

// Every algorithm of a device in order of preference; the last one never refuses.
using Conv2dCandidates = std::vector<Conv2dCandidate>;

// The first candidate with nothing against it ("auto"), or the one named: then a refusal is an error.
Conv2dAlgorithm conv2d_select(const char* op, const Conv2dCandidates& candidates, const std::string& algorithm);

}  // namespace convkit
