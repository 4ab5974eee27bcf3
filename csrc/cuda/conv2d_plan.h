// What is chosen on CUDA, for convkit.explain; the arguments are those of convkit::conv2d_plan.
#pragma once

#include "common/conv2d_plan.h"

namespace convkit::cuda {

Conv2dPlan conv2d_plan(const std::string& direction, const Conv2dShape& shape, const std::string& dtype,
                       const std::string& algorithm);

}  // namespace convkit::cuda
