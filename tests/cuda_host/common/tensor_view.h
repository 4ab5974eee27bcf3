// In place of csrc/common/tensor_view.h: whoever asks for a tensor's memory may use it from then on, all of its extent.
#pragma once

#include "common/conv2d_shape.h"
#include "common/tensor.h"
#include "memory.h"

namespace convkit {

inline void allow(const Tensor& t, const void* data, bool writable) {
  int64_t last = 0;  // element
  for (int64_t d = 0; d < t.dim(); ++d) last += (t.size(d) - 1) * t.stride(d);
  if (t.numel() > 0) simt::allow(data, (last + 1) * t.element_size(), writable);
}

template <typename T>
const T* const_data(const Tensor& t) {
  allow(t, t.const_data_ptr(), false);
  return static_cast<const T*>(t.const_data_ptr());
}

template <typename T>
T* data(const Tensor& t) {
  allow(t, t.data_ptr(), true);
  return static_cast<T*>(t.data_ptr());
}

template <typename T>
View4d<T> view(const Tensor& t) {
  return {data<T>(t), t.stride(0), t.stride(1), t.stride(2), t.stride(3)};
}

template <typename T>
View4d<const T> const_view(const Tensor& t) {
  return {const_data<T>(t), t.stride(0), t.stride(1), t.stride(2), t.stride(3)};
}

}  // namespace convkit
