// convkit._C: what is not a tensor. Importing it registers the ops of csrc/library.cpp.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <bit>
#include <map>

#include "cpu/conv2d_plan.h"
#include "cpu/float32_algorithm.h"
#include "cpu/isa.h"
#include "cpu/limits.h"
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
  m.def("set_float32_algorithm", &convkit::set_float32_algorithm);
  m.def("get_float32_algorithm", &convkit::get_float32_algorithm);
  m.def("workspace_bytes", &convkit::workspace_bytes);
  m.def("measure_multiply_add_rate", &convkit::measure_multiply_add_rate);
  m.def("measure_read_rate", &convkit::measure_read_rate);
  m.def("measure_copy_rate", &convkit::measure_copy_rate);
  // shape: n, ic, ih, iw, oc, oh, ow, kh, kw, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w, groups.
  m.def("conv2d_plan", [](const std::string& direction, const std::array<int64_t, 16>& shape, const std::string& dtype,
                          const std::string& algorithm) {
    const auto plan = convkit::conv2d_plan(direction, std::bit_cast<convkit::Conv2dShape>(shape), dtype, algorithm);
    py::dict result;
    result["algorithm"] = plan.algorithm;
    result["passed_over"] =
        py::dict(py::cast(std::map<std::string, std::string>(plan.passed_over.begin(), plan.passed_over.end())));
    result["tile"] = py::make_tuple(plan.tile_rows, plan.tile_cols);
    result["tasks"] = plan.tasks;
    result["workspace_bytes"] = plan.workspace_bytes;
    result["packed_bytes"] = plan.packed_bytes;
    return result;
  });
}
