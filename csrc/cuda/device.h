// The current device, for host code that knows nothing of the CUDA runtime.
#pragma once

namespace convkit::cuda {

int multiprocessors();
int compute_capability();  // 80 is 8.0

}  // namespace convkit::cuda
