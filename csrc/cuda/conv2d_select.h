// The algorithms of CUDA.
#pragma once

#include "common/conv2d_select.h"
#include "cuda/conv2d_gemm_run.h"

namespace convkit::cuda {

Conv2dCandidates conv2d_candidates();

// Of "auto_tf32": "auto" of a problem that may be rounded. Any other name as it is.
std::string follow_precision(Conv2dProblem& problem, const std::string& algorithm);

// The candidate that `algorithm` names or, of "auto" and "auto_tf32", the first with nothing against it.
Conv2dAlgorithm select_algorithm(const char* op, Conv2dProblem problem, const std::string& algorithm);

// Where the products of an algorithm are computed; none for one that is no product of matrices.
std::optional<GemmUnit> gemm_unit(Conv2dAlgorithm algorithm, ScalarType dtype);

}  // namespace convkit::cuda
