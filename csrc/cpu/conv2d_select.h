// The algorithms of the CPU.
#pragma once

#include "common/conv2d_select.h"

namespace convkit {

Conv2dCandidates conv2d_candidates();

Conv2dAlgorithm conv2d_select(const char* op, const Conv2dProblem& problem, const std::string& algorithm);

}  // namespace convkit
