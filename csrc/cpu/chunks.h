// Cutting a range into equal parts.
#pragma once

#include "common/int_math.h"

namespace convkit {

// The number of equal chunks of at most `limit`, rounded to `multiple`, that cover `count`.
struct Chunks {
  int64_t size, number;
};

inline Chunks cut(int64_t count, int64_t limit, int64_t multiple) {
  if (count <= limit) return {max(count, 1), 1};
  const int64_t size = round_up(ceil_div(count, ceil_div(count, limit)), multiple);
  return {size, ceil_div(count, size)};
}

}  // namespace convkit
