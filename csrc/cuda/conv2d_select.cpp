#include "cuda/conv2d_select.h"

#include "cuda/conv2d_depthwise.h"
#include "cuda/conv2d_gemm_plan.h"
#include "cuda/device.h"

namespace convkit::cuda {
namespace {

constexpr int64_t kLargestWeight = int64_t{1} << 31;

std::string refuse_gemm(const Conv2dProblem& problem) {
  if (problem.shape.ic == 0) return "there are no input channels to sum over";
  if (problem.direction == Conv2dDirection::kForward) return refuse_forward_gemm(problem.shape);
  if (problem.direction == Conv2dDirection::kBackwardInput) return refuse_backward_input_gemm(problem.shape);
  return refuse_backward_weight_gemm(problem.shape);
}

std::string refuse_grouped(const Conv2dProblem& problem) {
  if (problem.dtype == ScalarType::Double) return "it computes in float32, which is not enough for Double";
  const std::string refusal = refuse_gemm(problem);
  if (!refusal.empty() || problem.direction != Conv2dDirection::kBackwardWeight) return refusal;
  const Conv2dShape& s = problem.shape;  // a block for every few weights
  return s.oc * s.group_ic() * s.kh * s.kw > kLargestWeight ? "its weight has too many elements" : "";
}

std::string refuse_depthwise(const Conv2dProblem& problem) {
  const Conv2dShape& s = problem.shape;
  if (s.groups != s.ic || s.groups != s.oc) return "it needs as many groups as input and output channels";
  const bool narrow = problem.dtype != ScalarType::Double;
  return narrow && depthwise_takes(s) ? "" : refuse_grouped(problem);
}

std::string refuse_capability(int least) {
  const int capability = code_capability();
  return capability >= least ? ""
                             : concat("it needs kernels for compute capability ", least / 10, ".", least % 10,
                                      ", and those for this device are for ", capability / 10, ".", capability % 10);
}

std::string refuse_direct(const Conv2dProblem& problem) {
  if (problem.dtype == ScalarType::Double) return "it computes in float32 and 16-bit types, not Double";
  if (problem.dtype == ScalarType::Float) return refuse_gemm(problem);
  const std::string refusal = refuse_capability(problem.dtype == ScalarType::BFloat16 ? 80 : 75);
  return refusal.empty() ? refuse_gemm(problem) : refusal;
}

std::string refuse_tf32(const Conv2dProblem& problem) {
  if (problem.dtype != ScalarType::Float) return concat("it computes in float32, not ", dtype_name(problem.dtype));
  const std::string refusal = refuse_capability(80);
  return refusal.empty() ? refuse_gemm(problem) : refusal;
}

// A tile spans 64 filters of one group. Groups of fewer channels than these leave more of it empty than tensor cores,
// or float32 at its own accuracy, are ahead of the grouped kernel.
constexpr int64_t kLeastFilters = 8, kLeastFiltersFloat32 = 32;

std::string avoid_gemm(const Conv2dProblem& problem, int64_t least) {
  const Conv2dShape& s = problem.shape;
  const bool few = s.groups > 1 && min(s.group_ic(), s.group_oc()) < least;
  return few ? concat("a group has fewer than ", least, " channels, which leaves tiles nearly empty") : "";
}

std::string avoid_direct(const Conv2dProblem& problem) {
  return avoid_gemm(problem, problem.dtype == ScalarType::Float ? kLeastFiltersFloat32 : kLeastFilters);
}

std::string avoid_tf32(const Conv2dProblem& problem) {
  if (!problem.may_round) return "torch.backends.cudnn.conv.fp32_precision does not allow it";
  return avoid_gemm(problem, kLeastFilters);
}

// A first layer of 3 channels took 0.94 to 1.04 of the time of multiply-adds on an H100: loads bind there, not
// products.
constexpr int64_t kLeastChannels3xTf32 = 8;

std::string avoid_3xtf32(const Conv2dProblem& problem) {
  const Conv2dShape& s = problem.shape;
  if (min(s.group_ic(), s.group_oc()) < kLeastChannels3xTf32)
    return concat("fewer than ", kLeastChannels3xTf32, " channels leave too little to multiply");
  return avoid_gemm(problem, kLeastFiltersFloat32);
}

std::string refuse_unwritten(const Conv2dProblem&) { return "it has no CUDA kernel"; }

// In order of preference; the last one never refuses.
constexpr Conv2dCandidate kCandidates[] = {
    {Conv2dAlgorithm::kWinograd, "winograd", refuse_unwritten, never},
    {Conv2dAlgorithm::kDepthwise, "depthwise", refuse_depthwise, never},
    {Conv2dAlgorithm::kKn2row, "kn2row", refuse_unwritten, never},
    {Conv2dAlgorithm::kTf32, "tf32", refuse_tf32, avoid_tf32},
    {Conv2dAlgorithm::k3xTf32, "3xtf32", refuse_tf32, avoid_3xtf32},
    {Conv2dAlgorithm::kDirect, "direct", refuse_direct, avoid_direct},
    {Conv2dAlgorithm::kGrouped, "grouped", refuse_grouped, never},
    {Conv2dAlgorithm::kGeneric, "generic", never, never},
};

}  // namespace

Conv2dCandidates conv2d_candidates() { return kCandidates; }

std::string follow_precision(Conv2dProblem& problem, const std::string& algorithm) {
  problem.may_round = algorithm == "auto_tf32";
  return problem.may_round ? "auto" : algorithm;
}

Conv2dAlgorithm select_algorithm(const char* op, Conv2dProblem problem, const std::string& algorithm) {
  const std::string name = follow_precision(problem, algorithm);
  return conv2d_select(op, kCandidates, problem, name);
}

std::optional<GemmUnit> gemm_unit(Conv2dAlgorithm algorithm, ScalarType dtype) {
  if (algorithm == Conv2dAlgorithm::kTf32) return GemmUnit::kTf32;
  if (algorithm == Conv2dAlgorithm::k3xTf32) return GemmUnit::k3xTf32;
  if (algorithm != Conv2dAlgorithm::kDirect) return std::nullopt;
  return dtype == ScalarType::Float ? GemmUnit::kFfma : GemmUnit::kTensor16;
}

}  // namespace convkit::cuda
