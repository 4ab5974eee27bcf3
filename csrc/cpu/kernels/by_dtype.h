// Functions of a kernel for each dtype that it takes as it is.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/half.h"

namespace convkit {

template <template <typename> typename Of>
struct ByDtype {
  Of<float> float32;
  Of<BFloat16> bfloat16;

  template <typename T>
  const Of<T>& get() const {
    if constexpr (std::is_same_v<T, BFloat16>)
      return bfloat16;
    else
      return float32;
  }
};

}  // namespace convkit
