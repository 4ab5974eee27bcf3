// The `activation` argument of ops.
#pragma once

#include <string>

#include "common/activation.h"
#include "common/check.h"

namespace convkit {

inline Activation parse_activation(const char* op, const std::string& activation) {
  CONVKIT_CHECK(activation == "none" || activation == "relu" || activation == "relu6", op,
                ": activation must be 'none', 'relu' or 'relu6', but got '", activation, "'");
  return activation == "none" ? Activation::kNone : activation == "relu" ? Activation::kRelu : Activation::kRelu6;
}

// For what knows no ReLU6.
inline bool is_relu(const char* op, const std::string& activation) {
  CONVKIT_CHECK(activation == "none" || activation == "relu", op, ": activation must be 'none' or 'relu', but got '",
                activation, "'");
  return activation == "relu";
}

}  // namespace convkit
