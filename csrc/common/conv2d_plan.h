// The choice of an algorithm in words and numbers, for convkit.explain. No torch here: csrc/module.cpp includes it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/conv2d_shape.h"

namespace convkit {

struct Conv2dPlan {
  std::string algorithm;
  std::vector<std::pair<std::string, std::string>> passed_over;  // algorithm, reason
  int64_t tile_rows = 0, tile_cols = 0;                          // pixels x output channels; 0: no register tile
  int64_t tasks = 0;
  int64_t workspace_bytes = 0;  // of one task
  int64_t packed_bytes = 0;     // of the weights that a task packs, inside its workspace
};

}  // namespace convkit
