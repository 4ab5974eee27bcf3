// The algorithms of CUDA.
#pragma once

#include "common/conv2d_select.h"
#include "cuda/conv2d_gemm_run.h"

namespace convkit::cuda {

// `may_round`: "auto" may round float32 to TF32.
Conv2dCandidates conv2d_candidates(const Conv2dProblem& problem, bool may_round);

// The candidate that `algorithm` names or, of "auto" and "auto_tf32", the first with nothing against it.
Conv2dAlgorithm select_algorithm(const char* op, const Conv2dProblem& problem, const std::string& algorithm);

// Where the products of an algorithm are computed; none for one that is no product of matrices.
std::optional<GemmUnit> gemm_unit(Conv2dAlgorithm algorithm, ScalarType dtype);

}  // namespace convkit::cuda
