// A bias as the kernels take it.
#pragma once

#include <optional>
#include <vector>

#include "common/tensor_view.h"

namespace convkit {

// A vector of float32 or bfloat16 as floats side by side: where it lies, if it is that, else a copy, which
// costs less than a tensor.
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
