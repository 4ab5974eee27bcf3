// What follows the bias of a convolution. NaN stays NaN and -0.0 stays -0.0, as in torch.
#pragma once

#include <cstdint>

namespace convkit {

enum class Activation { kNone, kRelu, kRelu6 };

// In place over `count` numbers, `stride` apart.
template <typename T>
void activate_row(Activation activation, T* row, int64_t stride, int64_t count) {
  if (activation == Activation::kNone) return;
  for (int64_t i = 0; i < count; ++i) {
    T& value = row[i * stride];
    if (value < T(0)) value = T(0);
    if (activation == Activation::kRelu6 && value > T(6)) value = T(6);
  }
}

}  // namespace convkit
