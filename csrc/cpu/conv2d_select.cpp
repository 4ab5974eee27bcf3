#include "cpu/conv2d_select.h"

#include "common/int_math.h"
#include "cpu/conv2d_blocking.h"
#include "cpu/conv2d_depthwise.h"
#include "cpu/conv2d_direct.h"
#include "cpu/conv2d_grouped.h"
#include "cpu/conv2d_kn2row.h"
#include "cpu/conv2d_phases.h"
#include "cpu/conv2d_winograd.h"
#include "cpu/float32_algorithm.h"
#include "cpu/isa.h"
#include "cpu/workspace.h"

namespace convkit {
namespace {

constexpr int64_t kLargestExtent = int64_t{1} << 20;

// Whether direct sums take bfloat16 as it is.
bool uses_pairs(const Conv2dProblem& problem) {
  return problem.dtype == ScalarType::BFloat16 && multiplies_bfloat16_pairs();
}

std::string refuse_winograd(const Conv2dProblem& problem) {
  const Conv2dShape& s = problem.shape;
  if (problem.dtype == ScalarType::Double) return "it computes in float32, not Double";
  if (s.kh != s.kw || (s.kh != 3 && s.kh != 5)) return concat("it needs a 3x3 or 5x5 window, not ", s.kh, "x", s.kw);
  if (s.stride_h != 1 || s.stride_w != 1) return "it needs stride 1";
  if (s.dilation_h != 1 || s.dilation_w != 1) return "it needs dilation 1";
  if (s.groups != 1) return "it needs groups=1";
  if (s.ic == 0) return "there are no input channels to sum over";
  return "";
}

// Few channels leave the transforms a large part of the work; below them, integers small enough to be exact in direct
// sums stay exact in "auto".
constexpr int64_t kLeastChannels = 16;
// Few tiles do not pay for transforming the weights. With 3x3 windows, 64 channels and 4x4 pixels a call takes 1.06
// times that of direct sums for one image, 0.59 times for 16; with 512 channels and 2x2 pixels 1.0 to 1.1 and 0.36
// times (AVX-512 on an AMD Zen 5). With 5x5 windows, 64 channels and 7x7 pixels 0.98 times for one image; at 2x2 pixels
// the error is 5 times that of direct sums, which meet few terms there.
constexpr int64_t kManyChannels = 128;
int64_t least_extent(const Conv2dShape& s) {
  const bool many = min(s.ic, s.oc) >= kManyChannels;
  return s.kh == 3 ? (many ? 2 : 4) : many ? 4 : 7;
}
// The gradient of the weight, 3x3: at 4x4 pixels and 64 channels 1.13 times for one image, 0.41 for 64; at 2x2 pixels
// and 128 channels its error is 3.7 times that of direct sums for 16 images, 2.7 for 64. 5x5, half of input and
// gradient zeros: at 12x12 pixels up to 5.3, at 13x13 4.9, at 14x14 4.5.
int64_t least_extent_of_weight(const Conv2dShape& s) {
  constexpr int64_t kManyPixels = 256;  // 512 channels, 2x2 pixels, 64 images: 0.25 times; one image 1.7
  return s.kh == 5 ? 14 : s.n * s.oh * s.ow >= kManyPixels ? least_extent(s) : 4;
}

// Direct sums of bfloat16 pairs take half as long. Against them 16 channels at 56x56 take 1.28 times as long, 32 0.92;
// 7x7 pixels with 512 channels 1.67 times for one image, 0.76 for 8; 14x14 pixels 0.95 and 0.78 times. 5x5 windows take
// 1.17 times as long with 32 channels at 28x28, 0.93 with 64.
constexpr int64_t kLeastExtentOfPairs = 8;
int64_t least_channels_of_pairs(const Conv2dShape& s) { return s.kh == 3 ? 32 : 64; }

std::string avoid_winograd(const Conv2dProblem& problem) {
  const Conv2dShape& s = problem.shape;
  if (get_float32_algorithm() == "direct") return "set_float32_algorithm('direct') is in force";
  const bool of_weight = problem.direction == Conv2dDirection::kBackwardWeight;
  const bool pairs = !of_weight && uses_pairs(problem);
  const int64_t channels = pairs ? least_channels_of_pairs(s) : kLeastChannels;
  const char* why = pairs ? ", and direct sums multiply bfloat16 in pairs" : "";
  if (min(s.ic, s.oc) < channels) return concat("there are fewer than ", channels, " channels", why);
  const int64_t least = of_weight ? least_extent_of_weight(s) : pairs ? kLeastExtentOfPairs : least_extent(s);
  if (min(s.oh, s.ow) < least) return concat("the output is less than ", least, " pixels high or wide", why);
  return "";
}

// The smallest band of input that a task could pack must be far below any overflow before its size is computed.
std::string refuse_extent(const Conv2dShape& s) {
  const int64_t window_h = (s.kh - 1) * s.dilation_h + 1, window_w = (s.kw - 1) * s.dilation_w + 1;
  const bool fits = max(max(window_h, window_w), max(s.stride_h, s.stride_w)) <= kLargestExtent;
  return fits ? "" : "its window or stride is too large to pack";
}

std::string refuse_bytes(int64_t bytes) {
  return bytes <= kWorkspaceLimit ? "" : concat("a task would need ", bytes, " bytes of workspace");
}

std::string refuse_depthwise(const Conv2dProblem& problem) {
  const Conv2dShape& s = problem.shape;
  if (problem.dtype == ScalarType::Double) return "it computes in float32, not Double";
  if (s.groups != s.ic || s.groups != s.oc) return "it needs as many groups as input and output channels";
  if (const std::string refusal = refuse_extent(s); !refusal.empty()) return refusal;
  const Conv2dShape& run =
      problem.direction == Conv2dDirection::kBackwardInput ? conv2d_depthwise_backward_input_shape(s) : s;
  const auto bytes = [&](bool channels_last) {
    const DepthwiseLayout layout = conv2d_depthwise_layout(run, problem.direction, channels_last, false);
    return conv2d_depthwise_blocking(run, problem.direction, layout).scratch_bytes();
  };
  return refuse_bytes(max(bytes(false), bytes(true)));
}

std::string refuse_grouped(const Conv2dProblem& problem) {
  const Conv2dShape& s = problem.shape;
  const Conv2dGroupedKernels& kernel = kernels().conv2d_grouped;
  if (problem.dtype == ScalarType::Double) return "it computes in float32, not Double";
  if (s.groups == 1) return "it needs several groups";
  if (s.ic == 0) return "there are no input channels to sum over";
  if (max(s.group_ic(), s.group_oc()) > kernel.lanes)
    return concat("a group has more than ", kernel.lanes, " channels");
  if (const std::string refusal = refuse_extent(s); !refusal.empty()) return refusal;
  // One sum of a window is one chain of additions.
  const int64_t products = s.kh * s.kw * max(s.group_ic(), s.group_oc());
  if (products > kConv2dChain) return concat("a window has ", products, " products, more than ", kConv2dChain);
  const bool turned = problem.direction == Conv2dDirection::kBackwardInput;
  const Conv2dShape run = turned ? conv2d_grouped_backward_input_shape(s) : s;
  return refuse_bytes(conv2d_grouped_blocking(run, kernel, problem.direction).scratch_bytes());
}

// A convolution of stride 1 that kn2row would run: the forward one, or a phase of the gradient of the input.
Conv2dShape kn2row_run(const Conv2dProblem& problem) {
  return problem.direction == Conv2dDirection::kBackwardInput ? largest_phase(problem.shape) : problem.shape;
}

std::string refuse_kn2row(const Conv2dProblem& problem) {
  const Conv2dShape& s = problem.shape;
  if (problem.dtype == ScalarType::Double) return "it computes in float32, not Double";
  if (problem.direction == Conv2dDirection::kBackwardWeight) return "it has no gradient of the weight";
  if (s.groups != 1) return "it needs groups=1";
  const Conv2dShape run = kn2row_run(problem);
  if (run.stride_h != 1 || run.stride_w != 1) return "it needs stride 1";
  if (run.ic == 0 || run.oc == 0 || run.ih == 0 || run.iw == 0) return "its input or its output is empty";
  if (const std::string refusal = refuse_extent(s); !refusal.empty()) return refusal;
  return refuse_bytes(conv2d_kn2row_blocking(run, kernels().conv2d_kn2row).scratch_bytes());
}

std::string avoid_kn2row(const Conv2dProblem& problem) {
  // A tile of direct sums has a vector of columns, of which few are used. Here all are, but adding a product to the
  // sums takes as long as multiplying so many input channels. 8 channels into 8 at 64x64 take
  // 0.082 ms against 0.065 by direct sums, 64 into 3 at 224x224 2.0 against 5.1 (AVX-512 on an AMD Zen 5).
  constexpr int64_t kAdding = 8;
  const Conv2dShape run = kn2row_run(problem);
  if (run.kh * run.kw == 1) return "a window of one position has no taps to split";
  return 4 * run.oc * (run.ic + kAdding) < 3 * kernels().conv2d_depthwise.lanes * run.ic
             ? ""
             : concat("adding up the taps of ", run.oc, " output channels takes longer than it spares");
}

std::string refuse_direct(const Conv2dProblem& problem) {
  const Conv2dShape& s = problem.shape;
  if (problem.dtype == ScalarType::Double) return "it computes in float32, not Double";
  if (s.ic == 0) return "there are no input channels to sum over";
  if (const std::string refusal = refuse_extent(s); !refusal.empty()) return refusal;
  const Conv2dDirectKernels& kernel = kernels().conv2d_direct;
  const Conv2dShape& run = problem.direction == Conv2dDirection::kBackwardInput ? largest_phase(s) : s;
  const int64_t bytes = problem.direction == Conv2dDirection::kBackwardWeight
                            ? conv2d_backward_weight_blocking(s, kernel).scratch_bytes()
                            : conv2d_blocking(run, kernel, {.bfloat16 = uses_pairs(problem)}).scratch_bytes();
  return refuse_bytes(bytes);
}

// In order of preference; the last one never refuses.
constexpr Conv2dCandidate kCandidates[] = {
    {Conv2dAlgorithm::kWinograd, "winograd", refuse_winograd, avoid_winograd},
    {Conv2dAlgorithm::kDepthwise, "depthwise", refuse_depthwise, never},
    {Conv2dAlgorithm::kGrouped, "grouped", refuse_grouped, never},
    {Conv2dAlgorithm::kKn2row, "kn2row", refuse_kn2row, avoid_kn2row},
    {Conv2dAlgorithm::kDirect, "direct", refuse_direct, never},
    {Conv2dAlgorithm::kGeneric, "generic", never, never},
};

}  // namespace

Conv2dCandidates conv2d_candidates() { return kCandidates; }

Conv2dAlgorithm conv2d_select(const char* op, const Conv2dProblem& problem, const std::string& algorithm) {
  return conv2d_select(op, kCandidates, problem, algorithm);
}

}  // namespace convkit
