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

std::string refuse_unwritten(const Conv2dProblem&) { return "it has no CUDA kernel"; }

// In order of preference; the last one never refuses.
constexpr Conv2dCandidate kCandidates[] = {
    {Conv2dAlgorithm::kWinograd, "winograd", refuse_unwritten, never},
    {Conv2dAlgorithm::kDepthwise, "depthwise", refuse_depthwise, never},
    {Conv2dAlgorithm::kKn2row, "kn2row", refuse_unwritten, never},
    {Conv2dAlgorithm::kDirect, "direct", refuse_unwritten, never},
    {Conv2dAlgorithm::kGeneric, "generic", never, never},
};

}  // namespace

Conv2dCandidates conv2d_candidates() { return kCandidates; }

Conv2dAlgorithm select_algorithm(const char* op, const Conv2dProblem& problem, const std::string& algorithm) {
  return conv2d_select(op, kCandidates, problem, algorithm);
}

}  // namespace convkit::cuda
