// relu and its gradient over flat memory: bound by bandwidth, so loads and stores of 16 bytes are all there is to it.
#include "cuda/index.cuh"
#include "cuda/pack.cuh"
#include "cuda/relu.cuh"
#include "cuda/relu.h"

namespace convkit::cuda {
namespace {

// The first `packs` packs 16 bytes at a time, the elements after them one by one.
template <typename T>
__global__ void relu_kernel(const T* input, T* output, int64_t packs, int64_t count) {
  const int64_t first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t p = first; p < packs; p += step) {
    Pack<T> pack = reinterpret_cast<const Pack<T>*>(input)[p];
    for (int lane = 0; lane < Pack<T>::kLanes; ++lane) pack.lane[lane] = relu(pack.lane[lane]);
    reinterpret_cast<Pack<T>*>(output)[p] = pack;
  }
  for (int64_t i = packs * Pack<T>::kLanes + first; i < count; i += step) output[i] = relu(input[i]);
}

template <typename T>
__global__ void relu_backward_kernel(const T* grad_output, const T* result, T* grad_input, int64_t packs,
                                     int64_t count) {
  const int64_t first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t p = first; p < packs; p += step) {
    Pack<T> grad = reinterpret_cast<const Pack<T>*>(grad_output)[p];
    const Pack<T> mask = reinterpret_cast<const Pack<T>*>(result)[p];
    for (int lane = 0; lane < Pack<T>::kLanes; ++lane)
      grad.lane[lane] = relu_gradient(grad.lane[lane], mask.lane[lane]);
    reinterpret_cast<Pack<T>*>(grad_input)[p] = grad;
  }
  for (int64_t i = packs * Pack<T>::kLanes + first; i < count; i += step)
    grad_input[i] = relu_gradient(grad_output[i], result[i]);
}

}  // namespace

template <typename T>
int launch_relu(const T* input, T* output, int64_t count, void* stream) {
  if (count == 0) return cudaSuccess;
  const int64_t packs = are_aligned(input, output) ? count / Pack<T>::kLanes : 0;
  return launch(relu_kernel<T>, {blocks_for(packs ? packs : count), kThreads}, stream, input, output, packs, count);
}

template <typename T>
int launch_relu_backward(const T* grad_output, const T* result, T* grad_input, int64_t count, void* stream) {
  if (count == 0) return cudaSuccess;
  const int64_t packs = are_aligned(grad_output, result, grad_input) ? count / Pack<T>::kLanes : 0;
  return launch(relu_backward_kernel<T>, {blocks_for(packs ? packs : count), kThreads}, stream, grad_output, result,
                grad_input, packs, count);
}

#define CONVKIT_INSTANTIATE(T)                               \
  template int launch_relu<T>(const T*, T*, int64_t, void*); \
  template int launch_relu_backward<T>(const T*, const T*, T*, int64_t, void*);
CONVKIT_INSTANTIATE(uint8_t)
CONVKIT_INSTANTIATE(int8_t)
CONVKIT_INSTANTIATE(int16_t)
CONVKIT_INSTANTIATE(int32_t)
CONVKIT_INSTANTIATE(int64_t)
CONVKIT_INSTANTIATE(Half)
CONVKIT_INSTANTIATE(BFloat16)
CONVKIT_INSTANTIATE(float)
CONVKIT_INSTANTIATE(double)

}  // namespace convkit::cuda
