// max_pool2d, max_pool2d_with_taps, max_pool2d_indices and max_pool2d_gather on the CPU.
#include "cpu/max_pool2d.h"

#include <atomic>
#include <tuple>

#include "common/pool2d_check.h"
#include "common/tensor_view.h"
#include "cpu/generic/max_pool2d.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "cpu/workspace.h"

namespace convkit {
namespace {

using Ints = std::vector<int64_t>;

double window_work(const Pool2dShape& s) {
  const double window = static_cast<double>(min(s.kh, s.ih)) * min(s.kw, s.iw);
  return static_cast<double>(s.n) * s.c * s.oh * s.ow * window;
}

// float32 with byte taps or none, and a layout that the vector kernels know; false: not this one.
bool run_vector_kernel(const Pool2dShape& s, const Tensor& input, const Tensor& output, const Tensor* taps) {
  const MaxPool2dKernels& kernel = kernels().max_pool2d;
  const MaxPool2d pool{s, const_view<float>(input), view<float>(output), taps ? data<uint8_t>(*taps) : nullptr};
  if (s.area() > kLargestByteArea || max(s.stride_w, s.dilation_w) > s.iw + s.kw) return false;
  const double work = window_work(s) * 4;  // comparing and blending cost more than a multiply-add
  if (pool.input.c == 1 && pool.output.c == 1) {
    parallel_tasks(s.n * s.oh, work, [&](int64_t i) { kernel.channels_last_row(pool, i / s.oh, i % s.oh); });
    return true;
  }
  const int64_t scratch_bytes = max_pool2d_scratch_floats(s, kernels().vector_floats) * 4;
  if (pool.input.w != 1 || pool.output.w != 1 || scratch_bytes > kWorkspaceLimit) return false;
  const int64_t all_rows = s.n * s.c * s.oh, rows = ceil_div(4096, s.ow);
  std::atomic<bool> out_of_memory{false};
  parallel_tasks(ceil_div(all_rows, rows), work, [&](int64_t i) {
    float* scratch = static_cast<float*>(workspace(scratch_bytes));
    if (scratch)
      kernel.plane_rows(pool, i * rows, min((i + 1) * rows, all_rows), scratch);
    else
      out_of_memory = true;
  });
  CONVKIT_CHECK(!out_of_memory, "max_pool2d: no memory for ", scratch_bytes, " bytes of workspace");
  return true;
}

template <typename T, typename Tap>
void run_generic(const Pool2dShape& s, const Tensor& input, const Tensor& output, const Tensor* taps) {
  const View4d<const T> x = const_view<T>(input);
  const View4d<T> y = view<T>(output);
  Tap* t = taps ? data<Tap>(*taps) : nullptr;
  parallel_tasks(s.n * s.c * s.oh, window_work(s),
                 [&](int64_t i) { max_pool2d_row(s, x, y, t, i / s.oh / s.c, i / s.oh % s.c, i % s.oh); });
}

Tensor max_pool2d(const Tensor& input, const Ints& kernel_size, const Ints& stride, const Ints& padding,
                  const Ints& dilation, bool ceil_mode) {
  const Pool2dShape s =
      make_pool2d_shape("max_pool2d", input.sizes(), {kernel_size, stride, padding, dilation, ceil_mode});
  const int64_t sizes[] = {s.n, s.c, s.oh, s.ow};
  const Tensor output = empty({sizes, 4}, suggests_channels_last(input), input.scalar_type(), input);
  max_pool2d_forward(s, input, output, nullptr);
  return output;
}

std::tuple<Tensor, Tensor> max_pool2d_with_taps(const Tensor& input, const Ints& kernel_size, const Ints& stride,
                                                const Ints& padding, const Ints& dilation, bool ceil_mode) {
  const Pool2dShape s =
      make_pool2d_shape("max_pool2d_with_taps", input.sizes(), {kernel_size, stride, padding, dilation, ceil_mode});
  const int64_t sizes[] = {s.n, s.c, s.oh, s.ow};
  const bool channels_last = suggests_channels_last(input);
  const Tensor output = empty({sizes, 4}, channels_last, input.scalar_type(), input);
  const Tensor taps = empty({sizes, 4}, channels_last, tap_dtype("max_pool2d_with_taps", s), input);
  max_pool2d_forward(s, input, output, &taps);
  return {output, taps};
}

// Calls f(Tap{}) with the C++ type of the taps.
template <typename F>
void dispatch_taps(const Tensor& taps, const F& f) {
  taps.scalar_type() == ScalarType::Byte ? f(uint8_t{}) : f(int32_t{});
}

// `taps` is dense.
template <typename Tap>
void check_taps(const char* op, const Pool2dShape& s, const Tensor& taps) {
  CONVKIT_CHECK(taps_are_inside(s, const_view<Tap>(taps)), op,
                ": taps name a position outside the window or the image");
}

// Calls body(n, c, oh, ow, h, w) with the image position that each window's tap names: outside the image for a window
// that lies in padding altogether, h = -1 for a dead one.
template <typename Tap, typename Body>
void for_each_winner(const char* op, const Pool2dShape& s, const Tensor& taps, const Body& body) {
  const Tensor dense = is_dense(taps) ? taps : torch::stable::contiguous(taps);
  check_taps<Tap>(op, s, dense);
  const View4d<const Tap> t = const_view<Tap>(dense);
  parallel_tasks(s.n * s.c * s.oh, static_cast<double>(s.n) * s.c * s.oh * s.ow, [&](int64_t i) {
    const int64_t n = i / s.oh / s.c, c = i / s.oh % s.c, oh = i % s.oh;
    for (int64_t ow = 0; ow < s.ow; ++ow) {
      const int64_t tap = t.data[n * t.n + c * t.c + oh * t.h + ow * t.w];
      const int64_t h = oh * s.stride_h - s.pad_h + tap / s.kw * s.dilation_h;
      body(n, c, oh, ow, tap < s.area() ? h : -1, ow * s.stride_w - s.pad_w + tap % s.kw * s.dilation_w);
    }
  });
}

Tensor max_pool2d_indices(const Tensor& taps, const Ints& input_size, const Ints& kernel_size, const Ints& stride,
                          const Ints& padding, const Ints& dilation) {
  constexpr const char* kOp = "max_pool2d_indices";
  const Pool2dShape s =
      make_pool2d_shape(kOp, {input_size.data(), input_size.size()}, {kernel_size, stride, padding, dilation}, taps);
  const Tensor indices = empty(taps.sizes(), suggests_channels_last(taps), ScalarType::Long, taps);
  const View4d<int64_t> out = view<int64_t>(indices);
  dispatch_taps(taps, [&](auto zero) {
    for_each_winner<decltype(zero)>(kOp, s, taps,
                                    [&](int64_t n, int64_t c, int64_t oh, int64_t ow, int64_t h, int64_t w) {
                                      out.data[n * out.n + c * out.c + oh * out.h + ow * out.w] = h * s.iw + w;
                                    });
  });
  return indices;
}

Tensor max_pool2d_gather(const Tensor& input, const Tensor& taps, const Ints& kernel_size, const Ints& stride,
                         const Ints& padding, const Ints& dilation) {
  constexpr const char* kOp = "max_pool2d_gather";
  const Pool2dShape s = make_pool2d_shape(kOp, input.sizes(), {kernel_size, stride, padding, dilation}, taps);
  const Tensor output = empty(taps.sizes(), suggests_channels_last(taps), input.scalar_type(), input);
  dispatch_floating(kOp, input.scalar_type(), [&](auto number) {
    using T = decltype(number);
    const View4d<const T> x = const_view<T>(input);
    const View4d<T> y = view<T>(output);
    dispatch_taps(taps, [&](auto zero) {
      for_each_winner<decltype(zero)>(kOp, s, taps,
                                      [&](int64_t n, int64_t c, int64_t oh, int64_t ow, int64_t h, int64_t w) {
                                        const bool inside = h >= 0 && h < s.ih && w >= 0 && w < s.iw;
                                        y.data[n * y.n + c * y.c + oh * y.h + ow * y.w] =
                                            inside ? x.data[n * x.n + c * x.c + h * x.h + w * x.w] : T(0);
                                      });
    });
  });
  return output;
}

// The tensor itself if it is dense in this layout, else a copy that is.
Tensor laid_out(const Tensor& tensor, bool channels_last) {
  if (channels_last ? is_channels_last(tensor) : is_contiguous(tensor)) return tensor;
  Tensor copy = empty(tensor.sizes(), channels_last, tensor.scalar_type(), tensor);
  torch::stable::copy_(copy, tensor);
  return copy;
}

// float32 with byte taps, and a window that the vector kernels know; false: not this one.
bool run_vector_backward(const Pool2dShape& s, const Tensor& grad_output, const Tensor& taps, const Tensor& grad_input,
                         bool channels_last) {
  const MaxPool2dKernels& kernel = kernels().max_pool2d;
  const MaxPool2dBackward pool{s, static_cast<const float*>(grad_output.const_data_ptr()),
                               static_cast<const uint8_t*>(taps.const_data_ptr()), data<float>(grad_input)};
  const double work = static_cast<double>(s.n) * s.c * s.ih * s.iw * 2;
  if (channels_last) {
    parallel_tasks(s.n * s.ih, work, [&](int64_t i) { kernel.backward_channels_last_row(pool, i / s.ih, i % s.ih); });
    return true;
  }
  if (!max_pool2d_gathers_planes(s)) return false;
  const int64_t scratch_bytes = max_pool2d_backward_scratch_floats(s, kernels().vector_floats) * 4;
  if (scratch_bytes > kWorkspaceLimit) return false;
  const int64_t all_planes = s.n * s.c, planes = ceil_div(16384, s.ih * s.iw);
  std::atomic<bool> out_of_memory{false};
  parallel_tasks(ceil_div(all_planes, planes), work, [&](int64_t i) {
    float* scratch = static_cast<float*>(workspace(scratch_bytes));
    if (scratch)
      kernel.backward_planes(pool, i * planes, min((i + 1) * planes, all_planes), scratch);
    else
      out_of_memory = true;
  });
  CONVKIT_CHECK(!out_of_memory, "max_pool2d_backward: no memory for ", scratch_bytes, " bytes of workspace");
  return true;
}

// By planes while a sum may be kept in grad_input itself, else by rows.
template <typename T, typename Tap>
void run_generic_backward(const Pool2dShape& s, const View4d<const T>& g, const View4d<const Tap>& t,
                          const View4d<T>& x) {
  const double work = static_cast<double>(s.n) * s.c * s.ih * s.iw;
  if constexpr (std::is_floating_point_v<T>)
    parallel_tasks(s.n * s.c, work * 2, [&](int64_t i) { max_pool2d_backward_plane(s, g, t, x, i / s.c, i % s.c); });
  else
    parallel_tasks(s.n * s.c * s.ih, work * 4,
                   [&](int64_t i) { max_pool2d_backward_row(s, g, t, x, i / s.ih / s.c, i / s.ih % s.c, i % s.ih); });
}

Tensor max_pool2d_backward(const Tensor& grad_output, const Tensor& taps, const Ints& input_size, bool channels_last,
                           const Ints& kernel_size, const Ints& stride, const Ints& padding, const Ints& dilation) {
  constexpr const char* kOp = "max_pool2d_backward";
  const Pool2dShape s =
      make_pool2d_shape(kOp, {input_size.data(), input_size.size()}, {kernel_size, stride, padding, dilation}, taps);
  CONVKIT_CHECK(std::ranges::equal(grad_output.sizes(), taps.sizes()), kOp, ": expected grad_output of size ",
                format_sizes(taps.sizes()), ", but got ", format_sizes(grad_output.sizes()));
  const ScalarType dtype = grad_output.scalar_type();
  const Tensor grad_input = empty({input_size.data(), input_size.size()}, channels_last, dtype, grad_output);
  if (grad_input.numel() == 0) return grad_input;
  const Tensor grad = laid_out(grad_output, channels_last), dense_taps = laid_out(taps, channels_last);
  dispatch_taps(taps, [&](auto zero) {
    using Tap = decltype(zero);
    check_taps<Tap>(kOp, s, dense_taps);
    if constexpr (std::is_same_v<Tap, uint8_t>)
      if (dtype == ScalarType::Float && run_vector_backward(s, grad, dense_taps, grad_input, channels_last)) return;
    dispatch_floating(kOp, dtype, [&](auto number) {
      using T = decltype(number);
      run_generic_backward(s, const_view<T>(grad), const_view<Tap>(dense_taps), view<T>(grad_input));
    });
  });
  return grad_input;
}

}  // namespace

void max_pool2d_forward(const Pool2dShape& s, const Tensor& input, const Tensor& output, const Tensor* taps) {
  if (output.numel() == 0) return;
  if (input.scalar_type() == ScalarType::Float && run_vector_kernel(s, input, output, taps)) return;
  dispatch_real("max_pool2d", input.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    if (s.area() <= kLargestByteArea)
      run_generic<T, uint8_t>(s, input, output, taps);
    else
      run_generic<T, int32_t>(s, input, output, taps);
  });
}

}  // namespace convkit

STABLE_TORCH_LIBRARY_IMPL(convkit, CPU, m) {
  m.impl("max_pool2d", TORCH_BOX(&convkit::max_pool2d));
  m.impl("max_pool2d_with_taps", TORCH_BOX(&convkit::max_pool2d_with_taps));
  m.impl("max_pool2d_indices", TORCH_BOX(&convkit::max_pool2d_indices));
  m.impl("max_pool2d_backward", TORCH_BOX(&convkit::max_pool2d_backward));
  m.impl("max_pool2d_gather", TORCH_BOX(&convkit::max_pool2d_gather));
}
