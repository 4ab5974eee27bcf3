// convkit._C: what is not a tensor. Importing it registers the ops of csrc/library.cpp.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <bit>
#include <map>

#include "cpu/conv2d_packed.h"
#include "cpu/conv2d_plan.h"
#include "cpu/float32_algorithm.h"
#include "cpu/isa.h"
#include "cpu/limits.h"
#include "cpu/workspace.h"
#include "cuda/conv2d_plan.h"

namespace py = pybind11;

// n, ic, ih, iw, oc, oh, ow, kh, kw, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w, groups
using Shape = std::array<int64_t, 16>;

convkit::Conv2dShape conv2d_shape(const Shape& shape) { return std::bit_cast<convkit::Conv2dShape>(shape); }

py::dict to_dict(const convkit::Conv2dPlan& plan) {
  py::dict result;
  result["algorithm"] = plan.algorithm;
  result["passed_over"] =
      py::dict(py::cast(std::map<std::string, std::string>(plan.passed_over.begin(), plan.passed_over.end())));
  result["tile"] = py::make_tuple(plan.tile_rows, plan.tile_cols);
  result["tasks"] = plan.tasks;
  result["workspace_bytes"] = plan.workspace_bytes;
  result["packed_bytes"] = plan.packed_bytes;
  return result;
}

PYBIND11_MODULE(_C, m) {
  m.def("build_info", [] {
    py::dict info;
    info["torch"] = CONVKIT_TORCH;
    info["cuda_archs"] = CONVKIT_CUDA_ARCHS;
    info["cuda_reason"] = CONVKIT_CUDA_REASON;
#ifdef __clang__  // which names itself in it
    info["compiler"] = __VERSION__;
#else
    info["compiler"] = "gcc " __VERSION__;
#endif
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
  m.def("packed_weight_bytes", [](const Shape& shape, const std::string& algorithm) {
    return convkit::packed_weight_bytes(conv2d_shape(shape), algorithm);
  });
  m.def(
      "pack_weight",
      [](const Shape& shape, const std::string& algorithm, uintptr_t weight, const std::array<int64_t, 4>& strides,
         uintptr_t packed) {
        const auto [n, c, h, w] = strides;
        convkit::pack_weight(conv2d_shape(shape), algorithm, {reinterpret_cast<const float*>(weight), n, c, h, w},
                             reinterpret_cast<uint8_t*>(packed));
      },
      py::call_guard<py::gil_scoped_release>());
  m.def("conv2d_plan", [](const std::string& direction, const Shape& shape, const std::string& dtype,
                          const std::string& algorithm, bool channels_last) {
    return to_dict(convkit::conv2d_plan(direction, conv2d_shape(shape), dtype, algorithm, channels_last));
  });
#if CONVKIT_CUDA
  m.def("cuda_conv2d_plan",
        [](const std::string& direction, const Shape& shape, const std::string& dtype, const std::string& algorithm) {
          return to_dict(convkit::cuda::conv2d_plan(direction, conv2d_shape(shape), dtype, algorithm));
        });
#endif
}
