// The algorithms of CUDA.
#pragma once

#include "common/conv2d_select.h"

namespace convkit::cuda {

Conv2dCandidates conv2d_candidates();

Conv2dAlgorithm select_algorithm(const char* op, const Conv2dProblem& problem, const std::string& algorithm);

}  // namespace convkit::cuda
