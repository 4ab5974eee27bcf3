// convkit._C: what is not a tensor. Importing it registers the ops of csrc/library.cpp.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu/isa.h"
#include "cpu/workspace.h"

namespace py = pybind11;

PYBIND11_MODULE(_C, m) {
  m.def("build_info", [] {
    py::dict info;
    info["torch"] = CONVKIT_TORCH;
    info["cuda_archs"] = CONVKIT_CUDA_ARCHS;
    info["cuda_reason"] = CONVKIT_CUDA_REASON;
    info["compiler"] = __VERSION__;
    return info;
  });
  m.def("isa", [] { return convkit::kernels().isa; });
  m.def("isa_error", &convkit::isa_error);
  m.def("supported_isas", &convkit::supported_isas);
  m.def("workspace_bytes", &convkit::workspace_bytes);
}
