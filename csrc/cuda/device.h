// The current device, for host code that knows nothing of the CUDA runtime.
#pragma once

namespace convkit::cuda {

int multiprocessors();

// The compute capability that the kernels were compiled for which the device runs; 80 is 8.0. Less than its own where
// it has none but by PTX, whose code has no more instructions than it was written for.
int code_capability();

// Whether that code is of sm_90a, which has Hopper's instructions.
bool has_wgmma();

}  // namespace convkit::cuda
