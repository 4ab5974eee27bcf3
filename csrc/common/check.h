// CONVKIT_CHECK(condition, parts...): throws a RuntimeError whose text is the parts, one after the other.
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>

namespace convkit {

template <typename Part>
void append(std::string& text, const Part& part) {
  if constexpr (std::is_integral_v<Part> && !std::is_same_v<Part, char>)
    text += std::to_string(part);
  else
    text += part;
}

// The parts, strings and integers, as one text.
template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::string text;
  (append(text, parts), ...);
  return text;
}

}  // namespace convkit

#define CONVKIT_CHECK(condition, ...)                                           \
  do {                                                                          \
    if (!(condition)) throw std::runtime_error(::convkit::concat(__VA_ARGS__)); \
  } while (false)
