// The schema of every op. Implementations are registered where they live: csrc/cpu, csrc/cuda; gradients in
// convkit/ops. A pair is (height, width); padding is (top, bottom, left, right). `taps` hold the winning
// position of each pooling window, kh * KW + kw: one byte while the window has at most 255 positions, int32
// beyond.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(convkit, m) {
  m.def("relu(Tensor input) -> Tensor");
  m.def("relu_(Tensor(a!) input) -> ()");
  m.def("relu_backward(Tensor grad_output, Tensor result) -> Tensor");

  m.def(
      "conv2d(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, int "
      "groups, "
      "str activation, str algorithm) -> Tensor");
  m.def(
      "conv2d_backward_input(Tensor grad_output, Tensor weight, SymInt[] input_size, bool channels_last, "
      "int[] stride, "
      "int[] padding, int[] dilation, int groups, str algorithm) -> Tensor");
  m.def(
      "conv2d_backward_weight(Tensor grad_output, Tensor input, SymInt[] weight_size, bool channels_last, "
      "int[] stride, int[] padding, int[] dilation, int groups, str algorithm) -> Tensor");
  m.def("conv2d_backward_bias(Tensor grad_output) -> Tensor");
  m.def(
      "conv2d_max_pool2d(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] "
      "dilation, "
      "int groups, str activation, int[] pool_kernel_size, int[] pool_stride, int[] pool_padding, bool "
      "return_taps, "
      "str algorithm) -> (Tensor, Tensor)");
  // For inference: no gradient. `max_pool` is empty, or kernel size, stride and padding; `packed_weight` holds bytes.
  m.def(
      "conv2d_packed(Tensor input, Tensor weight, Tensor? bias, Tensor packed_weight, int[] stride, int[] padding, "
      "int[] dilation, int groups, str activation, int[] max_pool, str algorithm) -> Tensor");

  m.def(
      "max_pool2d(Tensor input, int[] kernel_size, int[] stride, int[] padding, int[] dilation, bool "
      "ceil_mode) "
      "-> Tensor");
  m.def(
      "max_pool2d_with_taps(Tensor input, int[] kernel_size, int[] stride, int[] padding, int[] dilation, "
      "bool ceil_mode) -> (Tensor, Tensor)");
  m.def(
      "max_pool2d_indices(Tensor taps, SymInt[] input_size, int[] kernel_size, int[] stride, int[] padding, "
      "int[] dilation) -> Tensor");
  m.def(
      "max_pool2d_backward(Tensor grad_output, Tensor taps, SymInt[] input_size, bool channels_last, "
      "int[] kernel_size, int[] stride, int[] padding, int[] dilation) -> Tensor");
  m.def(
      "max_pool2d_gather(Tensor input, Tensor taps, int[] kernel_size, int[] stride, int[] padding, int[] "
      "dilation) "
      "-> Tensor");

  m.def("linear(Tensor input, Tensor weight, Tensor? bias, str activation) -> Tensor");
}
