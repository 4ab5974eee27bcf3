// Tensors as the pointers and strides that kernels take.
#pragma once

#include <optional>
#include <vector>

#include "common/conv2d_shape.h"
#include "common/tensor.h"

namespace convkit {

// Of a tensor that is only read.
template <typename T>
const T* const_data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

template <typename T>
View4d<T> view(const Tensor& t) {
  return {data<T>(t), t.stride(0), t.stride(1), t.stride(2), t.stride(3)};
}

// Of a tensor that is only read.
template <typename T>
View4d<const T> const_view(const Tensor& t) {
  return {const_data<T>(t), t.stride(0), t.stride(1), t.stride(2), t.stride(3)};
}

// A vector of float32 or bfloat16 as floats side by side: where it lies, if it is that, else a copy. (Not a tensor:
// glibc cannot put a large tensor where one was freed, when it has aligned small ones meanwhile, and the process
// grows.)
class FloatVector {
 public:
  explicit FloatVector(const std::optional<Tensor>& vector) {
    if (!vector) return;
    if (vector->scalar_type() == ScalarType::BFloat16)
      copy(const_data<BFloat16>(*vector), vector->size(0), vector->stride(0));
    else if (vector->stride(0) != 1)
      copy(const_data<float>(*vector), vector->size(0), vector->stride(0));
    else
      data_ = const_data<float>(*vector);
  }
  FloatVector(const FloatVector&) = delete;
  FloatVector& operator=(const FloatVector&) = delete;

  const float* data() const { return data_; }  // null: there is no vector

 private:
  template <typename T>
  void copy(const T* from, int64_t size, int64_t stride) {
    copy_.resize(size);
    for (int64_t i = 0; i < size; ++i) copy_[i] = from[i * stride];
    data_ = copy_.data();
  }

  const float* data_ = nullptr;
  std::vector<float> copy_;
};

}  // namespace convkit
