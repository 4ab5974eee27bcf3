#include "common/conv2d_select.h"

namespace convkit {

Conv2dAlgorithm conv2d_select(const char* op, const Conv2dCandidates& candidates, const std::string& algorithm) {
  std::string names;
  for (const Conv2dCandidate& candidate : candidates) {
    if (algorithm == candidate.name)
      CONVKIT_CHECK(candidate.refusal.empty(), op, ": algorithm='", algorithm, "' cannot be used: ", candidate.refusal);
    if (algorithm == candidate.name || (algorithm == "auto" && candidate.reason_not_auto().empty()))
      return candidate.algorithm;
    names += concat(", '", candidate.name, "'");
  }
  throw std::invalid_argument(concat(op, ": algorithm must be one of 'auto'", names, ", but got '", algorithm, "'"));
}

}  // namespace convkit
