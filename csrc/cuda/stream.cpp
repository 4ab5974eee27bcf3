#include "cuda/stream.h"

#include <dlfcn.h>

#include "cuda/error.h"

namespace convkit::cuda {
namespace {

std::string device_name(const Tensor& tensor) {
  if (tensor.is_cuda()) return "cuda:" + std::to_string(tensor.get_device_index());
  return tensor.is_cpu() ? "cpu" : "a device of another kind";
}

// From libtorch_cuda, which is not linked: the same binary serves builds of torch that have none. Python loads that
// library locally, so only its own handle finds the symbol; RTLD_NOLOAD asks for the copy that is there.
void* current_stream(int32_t device) {
  using Getter = AOTITorchError (*)(int32_t device, void** stream);
  static const Getter getter = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    return library ? reinterpret_cast<Getter>(dlsym(library, "aoti_torch_get_current_cuda_stream")) : nullptr;
  }();
  void* stream = nullptr;
  // Never the default stream instead: kernels would race with what torch has queued on the current one.
  CONVKIT_CHECK(getter, "convkit: this torch does not tell its current CUDA stream; is it a CUDA build?");
  CONVKIT_CHECK(getter(device, &stream) == 0, "convkit: torch has no current stream on cuda:", device);
  return stream;
}

}  // namespace

void check_devices(const char* op, std::initializer_list<const Tensor*> tensors) {
  const int32_t device = (*tensors.begin())->get_device_index();
  for (const Tensor* tensor : tensors) {
    CONVKIT_CHECK(tensor->is_cuda(), op, ": expected CUDA tensors, but got one on ", device_name(*tensor));
    CONVKIT_CHECK(tensor->get_device_index() == device, op,
                  ": expected all tensors to be on the same device, but found cuda:", device, " and ",
                  device_name(*tensor));
  }
}

StreamGuard::StreamGuard(const Tensor& tensor)
    : device_(tensor.get_device_index()), stream_(current_stream(tensor.get_device_index())) {}

void check_launch(const char* op, int error) {
  CONVKIT_CHECK(error == 0, op, ": the CUDA kernel was not launched: ", error_text(error));
}

}  // namespace convkit::cuda
