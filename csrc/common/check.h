// CONVKIT_CHECK(condition, parts...): throws a RuntimeError whose text is the parts, streamed one after the
// other.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace convkit {

template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

}  // namespace convkit

#define CONVKIT_CHECK(condition, ...)                                           \
  do {                                                                          \
    if (!(condition)) throw std::runtime_error(::convkit::concat(__VA_ARGS__)); \
  } while (false)
