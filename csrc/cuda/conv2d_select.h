// The algorithms of CUDA.
#pragma once

#include "common/conv2d_select.h"

namespace convkit::cuda {

Conv2dCandidates conv2d_candidates(const Conv2dProblem& problem);

}  // namespace convkit::cuda
