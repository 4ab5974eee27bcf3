// What the ops need of a tensor beyond torch's stable ABI: memory formats, allocation, names of dtypes,
// dispatch on them.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <string>

#include "common/check.h"
#include "common/half.h"

namespace convkit {

using torch::headeronly::IntHeaderOnlyArrayRef;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// torch's name of a dtype, as its own messages write it: "Float", "BFloat16".
std::string dtype_name(ScalarType dtype);
// "[2, 3, 5, 7]"
std::string format_sizes(IntHeaderOnlyArrayRef sizes);

// Dense in (n, c, h, w) order, or in (n, h, w, c) order; strides of dimensions of size 1 do not matter.
bool is_contiguous(const Tensor& tensor);
bool is_channels_last(const Tensor& tensor);
// Dense in any order of dimensions: memory has no holes and no element twice.
bool is_dense(const Tensor& tensor);
// torch's Tensor::suggest_memory_format() == channels_last for a 4-D tensor: strides decide, also where sizes
// are 1.
bool suggests_channels_last(const Tensor& tensor);

// Uninitialised, on the device of `like`.
Tensor empty(IntHeaderOnlyArrayRef sizes, bool channels_last, ScalarType dtype, const Tensor& like);
Tensor empty_strided(IntHeaderOnlyArrayRef sizes, IntHeaderOnlyArrayRef strides, ScalarType dtype, const Tensor& like);
// torch's empty_like: with the strides of `tensor` where those are dense.
Tensor dense_like(const Tensor& tensor);
// A vector, which is itself if its elements lie side by side, else a copy.
Tensor contiguous_vector(const Tensor& vector);

// A tensor that both tensors' elements can be walked in the same flat order with: `tensor` itself if its
// strides are those of `like` and dense, else a copy with the strides of `like`.
Tensor with_strides_of(const Tensor& tensor, const Tensor& like);

// A 16-bit tensor in float32, in its memory format; any other as it is.
Tensor widen(const Tensor& tensor);
// The same values in another dtype, rounded once.
Tensor to_dtype(const Tensor& tensor, ScalarType dtype);
inline bool is_16_bit(ScalarType dtype) { return dtype == ScalarType::BFloat16 || dtype == ScalarType::Half; }

// Calls f(T{}) with the C++ type of a floating dtype; throws for any other.
template <typename F>
void dispatch_floating(const char* op, ScalarType dtype, const F& f) {
  switch (dtype) {
    case ScalarType::Float:
      return f(float{});
    case ScalarType::Double:
      return f(double{});
    case ScalarType::BFloat16:
      return f(BFloat16{});
    case ScalarType::Half:
      return f(Half{});
    default:
      CONVKIT_CHECK(false, '"', op, "\" not implemented for '", dtype_name(dtype), "'");
  }
}

// The same for every real dtype.
template <typename F>
void dispatch_real(const char* op, ScalarType dtype, const F& f) {
  switch (dtype) {
    case ScalarType::Byte:
      return f(uint8_t{});
    case ScalarType::Char:
      return f(int8_t{});
    case ScalarType::Short:
      return f(int16_t{});
    case ScalarType::Int:
      return f(int32_t{});
    case ScalarType::Long:
      return f(int64_t{});
    default:
      return dispatch_floating(op, dtype, f);
  }
}

}  // namespace convkit
