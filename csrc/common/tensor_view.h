// Tensors as the pointers and strides that kernels take.
#pragma once

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

}  // namespace convkit
