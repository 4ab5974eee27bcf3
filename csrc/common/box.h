// Registers ops that take a `str`. torch's conversion of one to std::string, in versions without
// https://github.com/pytorch/pytorch/pull/190493, never frees 48 bytes a call, and they keep larger holes in the heap
// apart: the process could grow by an output in each call. So strings are taken from the dispatcher here.
#pragma once

#include <torch/csrc/stable/library.h>

#include <string>
#include <type_traits>

#include "common/check.h"

namespace convkit {

// A `str` as the dispatcher hands it over: who takes it deletes it.
struct StringArgument {
  StringHandle handle;
};

inline std::string take(StringArgument argument) {
  size_t length = 0;
  const char* data = nullptr;
  const bool found =
      torch_string_length(argument.handle, &length) == 0 && torch_string_c_str(argument.handle, &data) == 0;
  std::string text = found ? std::string(data, length) : "";
  CONVKIT_CHECK(torch_delete_string(argument.handle) == 0 && found, "convkit: cannot read an argument of type str");
  return text;
}
template <typename T>
const T& take(const T& argument) {
  return argument;
}

template <typename T>
using Argument = std::conditional_t<std::is_same_v<std::decay_t<T>, std::string>, StringArgument, T>;

template <auto kFunction>
struct WithStrings;
template <typename Result, typename... Ts, Result (*kFunction)(Ts...)>
struct WithStrings<kFunction> {
  static Result call(Argument<Ts>... arguments) { return kFunction(take(arguments)...); }
};

}  // namespace convkit

// TORCH_BOX for a function with arguments of type std::string.
#define CONVKIT_BOX_STRINGS(function) TORCH_BOX((&::convkit::WithStrings<(function)>::call))
