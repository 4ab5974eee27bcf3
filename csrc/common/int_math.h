// Integer helpers shared by host code and kernels.
#pragma once

#include <cstdint>

namespace convkit {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
constexpr int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t clamp(int64_t a, int64_t low, int64_t high) { return min(max(a, low), high); }

}  // namespace convkit
