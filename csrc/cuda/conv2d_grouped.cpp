#include "cuda/conv2d_grouped.h"

#include "cuda/conv2d_gemm_launch.h"
#include "cuda/conv2d_gemm_plan.h"
#include "cuda/conv2d_grouped_op.h"

namespace convkit::cuda {

void conv2d_grouped(const Conv2dCall& call, const Tensor& input, const Tensor& weight,
                    const std::optional<Tensor>& bias, const Tensor& output) {
  const StreamGuard guard(input);
  std::optional<Tensor> dense_bias;
  if (bias) dense_bias = torch::stable::contiguous(*bias);
  dispatch_narrow(call.op, input.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    auto p = forward_gemm<T>(call.shape, const_view<T>(input), const_view<T>(weight), view<T>(output));
    p.bias = dense_bias ? const_data<T>(*dense_bias) : nullptr;
    p.relu = call.relu;
    check_launch(call.op, launch_conv2d_grouped(p, guard.stream()));
  });
}

void conv2d_grouped_backward_input(const char* op, const Conv2dShape& shape, const Tensor& grad_output,
                                   const Tensor& weight, const Tensor& grad_input) {
  const StreamGuard guard(weight);
  dispatch_narrow(op, weight.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t first = 0; first < phase_total(shape); first += kMaxPhases) {
      const auto p =
          backward_input_gemm<T>(shape, const_view<T>(grad_output), const_view<T>(weight), view<T>(grad_input), first);
      check_launch(op, launch_conv2d_grouped(p, guard.stream()));
    }
  });
}

void conv2d_grouped_backward_weight(const char* op, const Conv2dShape& shape, const Tensor& grad_output,
                                    const Tensor& input, const Tensor& grad_weight) {
  const StreamGuard guard(input);
  const int64_t elements = grad_weight.numel();
  dispatch_narrow(op, input.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const View4d<float> nowhere{nullptr, grad_weight.stride(0), grad_weight.stride(1), grad_weight.stride(2),
                                grad_weight.stride(3)};
    auto p = backward_weight_gemm<T>(shape, const_view<T>(input), const_view<T>(grad_output), nowhere);
    cut_conv2d_grouped_backward_weight(p, elements);
    p.split_stride = elements;
    if constexpr (std::is_same_v<T, float>)
      if (p.splits == 1) {
        p.output.data = data<float>(grad_weight);
        return check_launch(op, launch_conv2d_grouped_backward_weight(p, guard.stream()));
      }
    const int64_t floats = p.splits * elements;
    const Tensor partial = empty({&floats, 1}, false, ScalarType::Float, input);
    p.output.data = data<float>(partial);
    check_launch(op, launch_conv2d_grouped_backward_weight(p, guard.stream()));
    const SplitSum<T> sum{p.output.data, data<T>(grad_weight), nullptr, false, p.splits, elements, 1, 1};
    check_launch(op, launch_conv2d_sum_splits(sum, guard.stream()));
  });
}

}  // namespace convkit::cuda
