#include "cuda/conv2d_select.h"

namespace convkit::cuda {

Conv2dCandidates conv2d_candidates(const Conv2dProblem&) {
  return {
      {Conv2dAlgorithm::kWinograd, "winograd", "it has no CUDA kernel", ""},
      {Conv2dAlgorithm::kDepthwise, "depthwise", "it has no CUDA kernel", ""},
      {Conv2dAlgorithm::kDirect, "direct", "it has no CUDA kernel", ""},
      {Conv2dAlgorithm::kGeneric, "generic", "", ""},
  };
}

}  // namespace convkit::cuda
