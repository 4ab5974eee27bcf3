#include "common/pool2d_check.h"

#include <algorithm>

namespace convkit {
namespace {

void check_pair(const char* op, const char* name, const std::vector<int64_t>& values, int64_t least,
                const char* complaint) {
  const std::string text = format_sizes({values.data(), values.size()});
  CONVKIT_CHECK(values.size() == 2, op, ": ", name, " must either be a single int, or a tuple of two ints, but got ",
                text);
  for (const int64_t value : values) CONVKIT_CHECK(value >= least, op, ": ", complaint, ", but got ", name, "=", text);
}

// The span of a dilated kernel, within which the padding must stay.
int64_t checked_window(const char* op, int64_t kernel, int64_t pad, int64_t dilation) {
  int64_t span, window;
  CONVKIT_CHECK(!__builtin_mul_overflow(dilation, kernel - 1, &span) && !__builtin_add_overflow(span, 1, &window), op,
                ": kernel_size=", kernel, " with dilation=", dilation, " overflows");
  CONVKIT_CHECK(pad <= window / 2, op, ": pad should be at most half of effective kernel size, but got pad=", pad,
                ", kernel_size=", kernel, " and dilation=", dilation);
  CONVKIT_CHECK(pad <= kernel / 2, op,
                ": pad should be smaller than or equal to half of kernel size, but got pad=", pad,
                " and kernel_size=", kernel);
  return window;
}

int64_t output_size(const char* op, int64_t size, int64_t window, int64_t stride, int64_t pad, bool ceil_mode) {
  int64_t padded;
  CONVKIT_CHECK(!__builtin_add_overflow(size, 2 * pad, &padded), op, ": padding=", pad, " overflows");
  const int64_t room = padded - window;
  if (room < 0 && !(ceil_mode && room > -stride)) return 0;
  int64_t out = (room < 0 ? 0 : room / stride + (ceil_mode && room % stride ? 1 : 0)) + 1;
  // The last window must start inside the input or its left padding.
  if (ceil_mode && (out - 1) * stride >= size + pad) --out;
  return out;
}

Pool2dShape make_shape(const char* op, IntHeaderOnlyArrayRef input, const Pool2dArguments& a, bool ceil_mode) {
  check_pair(op, "kernel_size", a.kernel_size, 1, "kernel size should be greater than zero");
  check_pair(op, "stride", a.stride, 1, "stride should be greater than zero");
  check_pair(op, "padding", a.padding, 0, "pad must be non-negative");
  check_pair(op, "dilation", a.dilation, 1, "dilation should be greater than zero");
  const int64_t window_h = checked_window(op, a.kernel_size[0], a.padding[0], a.dilation[0]);
  const int64_t window_w = checked_window(op, a.kernel_size[1], a.padding[1], a.dilation[1]);
  CONVKIT_CHECK(input.size() == 4 && input[1] != 0 && input[2] != 0 && input[3] != 0, op,
                ": Expected 3D or 4D (batch mode) tensor with optional 0 dim batch size for input, but got: ",
                format_sizes(input));
  Pool2dShape s;
  s.n = input[0], s.c = input[1], s.ih = input[2], s.iw = input[3];
  s.kh = a.kernel_size[0], s.kw = a.kernel_size[1];
  s.stride_h = a.stride[0], s.stride_w = a.stride[1];
  s.pad_h = a.padding[0], s.pad_w = a.padding[1];
  s.dilation_h = a.dilation[0], s.dilation_w = a.dilation[1];
  s.oh = output_size(op, s.ih, window_h, s.stride_h, s.pad_h, ceil_mode);
  s.ow = output_size(op, s.iw, window_w, s.stride_w, s.pad_w, ceil_mode);
  return s;
}

}  // namespace

Pool2dShape make_pool2d_shape(const char* op, IntHeaderOnlyArrayRef input, const Pool2dArguments& arguments) {
  const Pool2dShape s = make_shape(op, input, arguments, arguments.ceil_mode);
  CONVKIT_CHECK(s.oh > 0 && s.ow > 0, op, ": Given input size: (", s.c, "x", s.ih, "x", s.iw,
                "). Calculated output size: (", s.c, "x", s.oh, "x", s.ow, "). Output size is too small");
  return s;
}

ScalarType tap_dtype(const char* op, const Pool2dShape& shape) {
  CONVKIT_CHECK(shape.area() <= INT32_MAX, op, ": a window of kernel_size=[", shape.kh, ", ", shape.kw,
                "] has too many positions to record which one won");
  return shape.area() <= kLargestByteArea ? ScalarType::Byte : ScalarType::Int;
}

Pool2dShape make_pool2d_shape(const char* op, IntHeaderOnlyArrayRef input, const Pool2dArguments& arguments,
                              const Tensor& taps) {
  for (const bool ceil_mode : {false, true}) {
    const Pool2dShape s = make_shape(op, input, arguments, ceil_mode);
    const int64_t sizes[] = {s.n, s.c, s.oh, s.ow};
    const bool fits = std::ranges::equal(taps.sizes(), sizes) && s.oh > 0 && s.ow > 0;
    CONVKIT_CHECK(fits || !ceil_mode, op, ": expected taps of size ", format_sizes({sizes, 4}), ", but got ",
                  format_sizes(taps.sizes()));
    CONVKIT_CHECK(!fits || taps.scalar_type() == tap_dtype(op, s), op, ": taps of a window of ", s.area(),
                  " positions must have type ", dtype_name(tap_dtype(op, s)), ", but got ",
                  dtype_name(taps.scalar_type()));
    if (fits) return s;
  }
  return {};  // not reached
}

}  // namespace convkit
