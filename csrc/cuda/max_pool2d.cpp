// max_pool2d, max_pool2d_with_taps, max_pool2d_indices, max_pool2d_backward and max_pool2d_gather on CUDA. Taps are not
// checked, which would wait for the device: one that names no position of its window counts as none.
#include "cuda/max_pool2d.h"

#include <algorithm>
#include <tuple>

#include "common/pool2d_check.h"
#include "cuda/max_pool2d_op.h"

namespace convkit::cuda {
namespace {

using Ints = std::vector<int64_t>;

// Calls f(Tap{}) with the C++ type of the taps.
template <typename F>
void dispatch_taps(const Tensor& taps, const F& f) {
  taps.scalar_type() == ScalarType::Byte ? f(uint8_t{}) : f(int32_t{});
}

std::tuple<Tensor, Tensor> forward(const char* op, const Tensor& input, const Pool2dArguments& arguments,
                                   bool return_taps) {
  check_devices(op, {&input});
  const Pool2dShape s = make_pool2d_shape(op, input.sizes(), arguments);
  const int64_t sizes[] = {s.n, s.c, s.oh, s.ow};
  const bool channels_last = suggests_channels_last(input);
  const Tensor output = empty({sizes, 4}, channels_last, input.scalar_type(), input);
  const Tensor taps = return_taps ? empty({sizes, 4}, channels_last, tap_dtype(op, s), input) : output;
  max_pool2d_forward(op, {s, channels_last}, input, output, return_taps ? &taps : nullptr);
  return {output, taps};
}

Tensor max_pool2d(const Tensor& input, const Ints& kernel_size, const Ints& stride, const Ints& padding,
                  const Ints& dilation, bool ceil_mode) {
  return std::get<0>(forward("max_pool2d", input, {kernel_size, stride, padding, dilation, ceil_mode}, false));
}

std::tuple<Tensor, Tensor> max_pool2d_with_taps(const Tensor& input, const Ints& kernel_size, const Ints& stride,
                                                const Ints& padding, const Ints& dilation, bool ceil_mode) {
  return forward("max_pool2d_with_taps", input, {kernel_size, stride, padding, dilation, ceil_mode}, true);
}

Tensor max_pool2d_indices(const Tensor& taps, const Ints& input_size, const Ints& kernel_size, const Ints& stride,
                          const Ints& padding, const Ints& dilation) {
  constexpr const char* kOp = "max_pool2d_indices";
  check_devices(kOp, {&taps});
  const Pool2dShape s =
      make_pool2d_shape(kOp, {input_size.data(), input_size.size()}, {kernel_size, stride, padding, dilation}, taps);
  const Tensor indices = empty(taps.sizes(), suggests_channels_last(taps), ScalarType::Long, taps);
  if (indices.numel() == 0) return indices;
  dispatch_taps(taps, [&](auto zero) {
    const StreamGuard guard(taps);
    check_launch(
        kOp, launch_max_pool2d_indices(s, const_view<decltype(zero)>(taps), view<int64_t>(indices), guard.stream()));
  });
  return indices;
}

Tensor max_pool2d_gather(const Tensor& input, const Tensor& taps, const Ints& kernel_size, const Ints& stride,
                         const Ints& padding, const Ints& dilation) {
  constexpr const char* kOp = "max_pool2d_gather";
  check_devices(kOp, {&input, &taps});
  const Pool2dShape s = make_pool2d_shape(kOp, input.sizes(), {kernel_size, stride, padding, dilation}, taps);
  const Tensor output = empty(taps.sizes(), suggests_channels_last(taps), input.scalar_type(), input);
  if (output.numel() == 0) return output;
  dispatch_floating(kOp, input.scalar_type(), [&](auto number) {
    using T = decltype(number);
    dispatch_taps(taps, [&](auto zero) {
      using Tap = decltype(zero);
      const StreamGuard guard(input);
      check_launch(kOp, launch_max_pool2d_gather<T, Tap>(s, const_view<T>(input), const_view<Tap>(taps),
                                                         view<T>(output), guard.stream()));
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

Tensor max_pool2d_backward(const Tensor& grad_output, const Tensor& taps, const Ints& input_size, bool channels_last,
                           const Ints& kernel_size, const Ints& stride, const Ints& padding, const Ints& dilation) {
  constexpr const char* kOp = "max_pool2d_backward";
  check_devices(kOp, {&grad_output, &taps});
  const Pool2dShape s =
      make_pool2d_shape(kOp, {input_size.data(), input_size.size()}, {kernel_size, stride, padding, dilation}, taps);
  CONVKIT_CHECK(std::ranges::equal(grad_output.sizes(), taps.sizes()), kOp, ": expected grad_output of size ",
                format_sizes(taps.sizes()), ", but got ", format_sizes(grad_output.sizes()));
  const ScalarType dtype = grad_output.scalar_type();
  const Tensor grad_input = empty({input_size.data(), input_size.size()}, channels_last, dtype, grad_output);
  if (grad_input.numel() == 0) return grad_input;
  const StreamGuard guard(grad_output);  // the copies go to this stream too
  const Tensor grad = laid_out(grad_output, channels_last), dense_taps = laid_out(taps, channels_last);
  dispatch_floating(kOp, dtype, [&](auto number) {
    using T = decltype(number);
    dispatch_taps(taps, [&](auto zero) {
      using Tap = decltype(zero);
      const MaxPool2dBackward<T, Tap> pool{s, const_view<T>(grad), const_view<Tap>(dense_taps), view<T>(grad_input),
                                           channels_last};
      check_launch(kOp, launch_max_pool2d_backward(pool, guard.stream()));
    });
  });
  return grad_input;
}

}  // namespace

void max_pool2d_forward(const char* op, const MaxPool2dCall& call, const Tensor& input, const Tensor& output,
                        const Tensor* taps) {
  if (output.numel() == 0) return;
  const StreamGuard guard(input);
  dispatch_real(op, input.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const auto run = [&](auto tap) {
      using Tap = decltype(tap);
      const MaxPool2d<T, Tap> pool{call.shape,         const_view<T>(input),
                                   view<T>(output),    taps ? data<Tap>(*taps) : nullptr,
                                   call.channels_last, call.has_relu};
      check_launch(op, launch_max_pool2d(pool, guard.stream()));
    };
    call.shape.area() <= kLargestByteArea ? run(uint8_t{}) : run(int32_t{});
  });
}

}  // namespace convkit::cuda

CONVKIT_CUDA_OPS(m) {
  m.impl("max_pool2d", TORCH_BOX(&convkit::cuda::max_pool2d));
  m.impl("max_pool2d_with_taps", TORCH_BOX(&convkit::cuda::max_pool2d_with_taps));
  m.impl("max_pool2d_indices", TORCH_BOX(&convkit::cuda::max_pool2d_indices));
  m.impl("max_pool2d_backward", TORCH_BOX(&convkit::cuda::max_pool2d_backward));
  m.impl("max_pool2d_gather", TORCH_BOX(&convkit::cuda::max_pool2d_gather));
}
