#include "common/conv2d_check.h"

#include <algorithm>

namespace convkit {
namespace {

// 64-bit arithmetic that refuses to overflow. No tensor has sizes near this, but an argument may.
int64_t checked_multiply(const char* op, int64_t a, int64_t b) {
  int64_t result;
  CONVKIT_CHECK(!__builtin_mul_overflow(a, b, &result), op, ": a size of ", a, " * ", b, " overflows");
  return result;
}

std::string format(const std::vector<int64_t>& values) { return format_sizes({values.data(), values.size()}); }

void check_list(const char* op, const char* name, const std::vector<int64_t>& values, size_t count, int64_t least,
                const char* complaint) {
  CONVKIT_CHECK(values.size() == count, op, ": ", name, " must have ", count, " values, but got ", format(values));
  for (const int64_t value : values)
    CONVKIT_CHECK(value >= least, op, ": ", complaint, ", but got ", name, "=", format(values));
}

// Sizes of the padded input and of the dilated kernel along one dimension.
struct Extent {
  int64_t padded, kernel;
};

Extent extent(const char* op, int64_t input, int64_t before, int64_t after, int64_t kernel, int64_t dilation) {
  Extent e;
  CONVKIT_CHECK(
      !__builtin_add_overflow(before, after, &e.padded) && !__builtin_add_overflow(input, e.padded, &e.padded), op,
      ": padding=[", before, ", ", after, "] overflows");
  CONVKIT_CHECK(
      !__builtin_mul_overflow(dilation, kernel - 1, &e.kernel) && !__builtin_add_overflow(e.kernel, 1, &e.kernel), op,
      ": dilation=", dilation, " of a kernel of ", kernel, " overflows");
  return e;
}

}  // namespace

Conv2dShape make_conv2d_shape(const char* op, IntHeaderOnlyArrayRef input, IntHeaderOnlyArrayRef weight,
                              const Conv2dArguments& a) {
  CONVKIT_CHECK(weight.size() == 4, op, ": Expected 4D weight, but got weight of size: ", format_sizes(weight));
  CONVKIT_CHECK(input.size() == 4, op, ": Expected 4D (batched) input, but got input of size: ", format_sizes(input));
  check_list(op, "stride", a.stride, 2, 1, "non-positive stride is not supported");
  check_list(op, "padding", a.padding, 4, 0, "negative padding is not supported");
  check_list(op, "dilation", a.dilation, 2, 1, "dilation should be greater than zero");
  CONVKIT_CHECK(a.groups > 0, op, ": non-positive groups is not supported, but got groups=", a.groups);
  CONVKIT_CHECK(weight[0] >= a.groups, op, ": Given groups=", a.groups, ", expected weight to be at least ", a.groups,
                " at dimension 0, but got weight of size ", format_sizes(weight), " instead");
  CONVKIT_CHECK(weight[0] % a.groups == 0, op, ": Given groups=", a.groups, ", expected weight to be divisible by ",
                a.groups, " at dimension 0, but got weight of size ", format_sizes(weight), " instead");
  CONVKIT_CHECK(input[1] == checked_multiply(op, weight[1], a.groups), op, ": Given groups=", a.groups,
                ", weight of size ", format_sizes(weight), ", expected input", format_sizes(input), " to have ",
                weight[1] * a.groups, " channels, but got ", input[1], " channels instead");
  CONVKIT_CHECK(weight[2] > 0 && weight[3] > 0, op, ": kernel size must be positive, but got weight of size ",
                format_sizes(weight));
  const Extent h = extent(op, input[2], a.padding[0], a.padding[1], weight[2], a.dilation[0]);
  const Extent w = extent(op, input[3], a.padding[2], a.padding[3], weight[3], a.dilation[1]);
  CONVKIT_CHECK(h.padded >= h.kernel && w.padded >= w.kernel, op, ": Calculated padded input size per channel: (",
                h.padded, " x ", w.padded, "). Kernel size: (", h.kernel, " x ", w.kernel,
                "). Kernel size can't be greater than actual input size");
  Conv2dShape s;
  s.n = input[0], s.ic = input[1], s.ih = input[2], s.iw = input[3];
  s.oc = weight[0], s.kh = weight[2], s.kw = weight[3];
  s.stride_h = a.stride[0], s.stride_w = a.stride[1];
  s.pad_top = a.padding[0], s.pad_left = a.padding[2];
  s.dilation_h = a.dilation[0], s.dilation_w = a.dilation[1];
  s.groups = a.groups;
  s.oh = (h.padded - h.kernel) / s.stride_h + 1;
  s.ow = (w.padded - w.kernel) / s.stride_w + 1;
  // The output's bytes must be countable before anything is allocated.
  checked_multiply(op, checked_multiply(op, checked_multiply(op, s.n, s.oc), checked_multiply(op, s.oh, s.ow)), 8);
  return s;
}

void check_same_kind(const char* op, const char* first_name, const Tensor& first, const char* second_name,
                     const Tensor& second) {
  CONVKIT_CHECK(first.is_cpu() == second.is_cpu() && first.is_cuda() == second.is_cuda(), op, ": ", first_name, " and ",
                second_name, " must be on the same device");
  CONVKIT_CHECK(first.scalar_type() == second.scalar_type(), op, ": ", first_name, " type (",
                dtype_name(first.scalar_type()), ") and ", second_name, " type (", dtype_name(second.scalar_type()),
                ") should be the same");
}

void check_bias(const char* op, const Tensor& bias, const Tensor& weight) {
  check_same_kind(op, "weight", weight, "bias", bias);
  CONVKIT_CHECK(bias.dim() == 1 && bias.size(0) == weight.size(0), op, ": Given weight of size ",
                format_sizes(weight.sizes()), ", expected bias to be 1-dimensional with ", weight.size(0),
                " elements, but got bias of size ", format_sizes(bias.sizes()), " instead");
}

void check_grad_output(const char* op, const Tensor& grad_output, const Conv2dShape& s) {
  const int64_t expected[] = {s.n, s.oc, s.oh, s.ow};
  CONVKIT_CHECK(std::ranges::equal(grad_output.sizes(), expected), op, ": expected grad_output of size ",
                format_sizes({expected, 4}), ", but got ", format_sizes(grad_output.sizes()));
}

}  // namespace convkit
