// The text of a launcher's result, for host code that knows nothing of the CUDA runtime.
#pragma once

namespace convkit::cuda {

const char* error_text(int error);

}  // namespace convkit::cuda
