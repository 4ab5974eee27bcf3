#include "cpu/float32_algorithm.h"

#include <atomic>
#include <stdexcept>

#include "common/check.h"

namespace convkit {
namespace {

std::atomic<bool> direct_only{false};

}  // namespace

void set_float32_algorithm(const std::string& algorithm) {
  if (algorithm != "auto" && algorithm != "direct")
    throw std::invalid_argument(
        concat("set_float32_algorithm: algorithm must be 'auto' or 'direct', but got '", algorithm, "'"));
  direct_only = algorithm == "direct";
}

std::string get_float32_algorithm() { return direct_only ? "direct" : "auto"; }

}  // namespace convkit
