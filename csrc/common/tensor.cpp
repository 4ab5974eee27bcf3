#include "common/tensor.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/util/shim_utils.h>

#include <algorithm>
#include <array>
#include <vector>

namespace convkit {
namespace {

// Whether the tensor is dense with dimensions nested in this order, outermost first.
bool is_dense_in_order(const Tensor& tensor, const int* order, int64_t dims) {
  int64_t expected = 1;
  for (int64_t i = dims - 1; i >= 0; --i) {
    const int64_t d = order[i];
    if (tensor.size(d) != 1 && tensor.stride(d) != expected) return false;
    expected *= tensor.size(d);
  }
  return true;
}

}  // namespace

std::string dtype_name(ScalarType dtype) { return torch::headeronly::toString(dtype); }

std::string format_sizes(IntHeaderOnlyArrayRef sizes) {
  std::string text = "[";
  for (size_t i = 0; i < sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + "]";
}

bool is_contiguous(const Tensor& tensor) { return tensor.numel() == 0 || tensor.is_contiguous(); }

bool is_channels_last(const Tensor& tensor) {
  constexpr int kOrder[] = {0, 2, 3, 1};
  return tensor.dim() == 4 && (tensor.numel() == 0 || is_dense_in_order(tensor, kOrder, 4));
}

bool is_dense(const Tensor& tensor) {
  if (is_contiguous(tensor)) return true;
  const int64_t dims = tensor.dim();
  std::vector<int> order(dims);
  for (int64_t i = 0; i < dims; ++i) order[i] = static_cast<int>(i);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return tensor.stride(a) > tensor.stride(b); });
  return tensor.numel() == 0 || is_dense_in_order(tensor, order.data(), dims);
}

bool suggests_channels_last(const Tensor& tensor) {
  // c10::is_channels_last_strides_2d: strides grow in the order c, w, h, n, and ties mean the contiguous
  // format.
  if (tensor.dim() != 4 || tensor.stride(1) == 0) return false;
  int64_t least = 0;
  for (const int d : {1, 3, 2, 0}) {
    if (tensor.size(d) == 0 || tensor.stride(d) < least) return false;
    if (d == 0 && least == tensor.stride(1)) return false;
    least = tensor.stride(d) * (tensor.size(d) > 1 ? tensor.size(d) : 1);
  }
  return true;
}

Tensor empty_strided(IntHeaderOnlyArrayRef sizes, IntHeaderOnlyArrayRef strides, ScalarType dtype, const Tensor& like) {
  int32_t device_type = 0, device_index = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  AtenTensorHandle handle = nullptr;
  // The shim numbers dtypes as ScalarType does.
  const auto failed = aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
                                               static_cast<int32_t>(dtype), device_type, device_index, &handle);
  // torch keeps its own text: sizes were checked before, so what is missing is memory.
  CONVKIT_CHECK(!failed, "convkit: can't allocate memory for a tensor of size ", format_sizes(sizes), " and type ",
                dtype_name(dtype));
  return Tensor(handle);
}

Tensor empty(IntHeaderOnlyArrayRef sizes, bool channels_last, ScalarType dtype, const Tensor& like) {
  std::vector<int64_t> strides(sizes.size());
  std::vector<int> order(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) order[i] = static_cast<int>(i);
  if (channels_last) order = {0, 2, 3, 1};
  int64_t stride = 1;
  for (int64_t i = static_cast<int64_t>(sizes.size()) - 1; i >= 0; --i) {
    strides[order[i]] = stride;
    stride *= std::max<int64_t>(sizes[order[i]], 1);
  }
  return empty_strided(sizes, {strides.data(), strides.size()}, dtype, like);
}

// Calls by the dispatcher, as torch::stable::empty_like and contiguous, cost about a microsecond.
Tensor dense_like(const Tensor& tensor) {
  if (!is_dense(tensor)) return torch::stable::empty_like(tensor);
  return empty_strided(tensor.sizes(), tensor.strides(), tensor.scalar_type(), tensor);
}

Tensor contiguous_vector(const Tensor& vector) {
  return vector.stride(0) == 1 ? vector : torch::stable::contiguous(vector);
}

Tensor with_strides_of(const Tensor& tensor, const Tensor& like) {
  const auto strides = tensor.strides(), wanted = like.strides();
  bool same = true;
  for (int64_t d = 0; d < tensor.dim(); ++d) same &= tensor.size(d) == 1 || strides[d] == wanted[d];
  if (same) return tensor;
  Tensor copy = empty_strided(tensor.sizes(), wanted, tensor.scalar_type(), tensor);
  torch::stable::copy_(copy, tensor);
  return copy;
}

Tensor to_dtype(const Tensor& tensor, ScalarType dtype) {
  Tensor copy = is_dense(tensor) ? empty_strided(tensor.sizes(), tensor.strides(), dtype, tensor)
                                 : empty(tensor.sizes(), suggests_channels_last(tensor), dtype, tensor);
  torch::stable::copy_(copy, tensor);
  return copy;
}

Tensor widen(const Tensor& tensor) {
  return is_16_bit(tensor.scalar_type()) ? to_dtype(tensor, ScalarType::Float) : tensor;
}

}  // namespace convkit
