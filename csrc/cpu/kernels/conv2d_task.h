// One task of a direct convolution, decoded: what part of the output it computes.
#pragma once

#include "cpu/kernels/conv2d_direct.h"

namespace convkit {
namespace {

struct ConvTask {
  int64_t n, group;
  int64_t row, rows, col, cols;  // output rows and columns
  int64_t oc, ocs;               // output channels within the group
};

}  // namespace
}  // namespace convkit
