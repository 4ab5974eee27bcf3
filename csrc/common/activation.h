// The `activation` argument of conv2d and linear.
#pragma once

#include <cstdint>
#include <string>

#include "common/check.h"

namespace convkit {

inline bool is_relu(const char* op, const std::string& activation) {
  CONVKIT_CHECK(activation == "none" || activation == "relu", op, ": activation must be 'none' or 'relu', but got '",
                activation, "'");
  return activation == "relu";
}

// relu over `count` numbers, `stride` apart.
template <typename T>
void relu_row(T* row, int64_t stride, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (row[i * stride] < T(0)) row[i * stride] = T(0);
}

}  // namespace convkit
