// Packed weights: what a convolution makes of its weight in each call, made once and kept by the caller. No torch here:
// csrc/module.cpp includes it.
#pragma once

#include <string>

#include "common/conv2d_shape.h"

namespace convkit {

// Bytes of the packed weight of a convolution by this algorithm; 0 where it packs nothing. Of `shape` only what
// describes the weight matters.
int64_t packed_weight_bytes(const Conv2dShape& shape, const std::string& algorithm);

void pack_weight(const Conv2dShape& shape, const std::string& algorithm, const View4d<const float>& weight,
                 uint8_t* packed);

}  // namespace convkit
