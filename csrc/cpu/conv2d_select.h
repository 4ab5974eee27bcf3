// Which algorithm computes a convolution, and why not the others.
#pragma once

#include <span>
#include <string>

#include "common/conv2d_shape.h"
#include "common/tensor.h"

namespace convkit {

enum class Conv2dAlgorithm { kWinograd, kDepthwise, kKn2row, kDirect, kGeneric };
enum class Conv2dDirection { kForward, kBackwardInput, kBackwardWeight };

struct Conv2dProblem {
  Conv2dDirection direction;
  Conv2dShape shape;  // of the forward convolution
  ScalarType dtype;
};

struct Conv2dCandidate {
  Conv2dAlgorithm algorithm;
  const char* name;
  std::string (*refuse)(const Conv2dProblem&);  // why it cannot serve a problem; empty if it can
  std::string (*avoid)(const Conv2dProblem&);   // why "auto" passes it over although it can; empty if it does not
};

// Every algorithm in order of preference; the last one never refuses.
std::span<const Conv2dCandidate> conv2d_candidates();

// The first candidate with nothing against it ("auto"), or the one named: then a refusal is an error.
Conv2dAlgorithm conv2d_select(const char* op, const Conv2dProblem& problem, const std::string& algorithm);

}  // namespace convkit
