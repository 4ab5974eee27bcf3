// Which of the kernel tables this process uses: the best that the machine runs, or a lower one by
// CONVKIT_ISA.
#pragma once

#include <string>
#include <vector>

#include "cpu/kernels/kernel_table.h"

namespace convkit {

// The chosen table; fixed for the life of the process.
const KernelTable& kernels();

// Names of the tables that this machine can run, lowest first.
std::vector<std::string> supported_isas();

// What was wrong with CONVKIT_ISA, or an empty string. The table is then the machine's best.
const std::string& isa_error();

}  // namespace convkit
