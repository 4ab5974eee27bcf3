// Whether "auto" may take algorithms that sum float32 in another way than direct sums. No torch here: csrc/module.cpp
// includes it.
#pragma once

#include <string>

namespace convkit {

// "auto" or "direct"; std::invalid_argument for another name. Holds for the whole process.
void set_float32_algorithm(const std::string& algorithm);
std::string get_float32_algorithm();

}  // namespace convkit
