// What conv2d_select decides on the CPU, in words and numbers, for convkit.explain.
#pragma once

#include "common/conv2d_plan.h"

namespace convkit {

// `direction`: "forward", "backward_input" or "backward_weight"; `dtype` as torch.dtype prints it, "float32".
// `channels_last`: the format of the images that it reads and writes.
Conv2dPlan conv2d_plan(const std::string& direction, const Conv2dShape& shape, const std::string& dtype,
                       const std::string& algorithm, bool channels_last);

}  // namespace convkit
