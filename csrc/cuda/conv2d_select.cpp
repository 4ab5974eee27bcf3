#include "cuda/conv2d_select.h"

#include "cuda/conv2d_depthwise.h"

namespace convkit::cuda {
namespace {

std::string refuse_depthwise(const Conv2dProblem& problem) {
  const Conv2dShape& s = problem.shape;
  if (problem.dtype == ScalarType::Double) return "it computes in float32, which is not enough for Double";
  if (s.groups != s.ic || s.groups != s.oc) return "it has as many groups as input and output channels";
  if (!depthwise_takes(s)) return "its window is 3x3, 5x5 or 7x7, with stride 1 or 2 and no dilation";
  return "";
}

}  // namespace

Conv2dCandidates conv2d_candidates(const Conv2dProblem& problem) {
  return {
      {Conv2dAlgorithm::kWinograd, "winograd", "it has no CUDA kernel", ""},
      {Conv2dAlgorithm::kDepthwise, "depthwise", refuse_depthwise(problem), ""},
      {Conv2dAlgorithm::kDirect, "direct", "it has no CUDA kernel", ""},
      {Conv2dAlgorithm::kGeneric, "generic", "", ""},
  };
}

}  // namespace convkit::cuda
