// CUDA's words for g++: what kernels and launchers of csrc/cuda use of the language and the runtime.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "simt.h"
#include "warp.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

#define threadIdx simt::thread_index()
#define blockIdx simt::block_index()
#define blockDim simt::block_size()
#define gridDim simt::grid_size()

// clang-format off
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) int4 { int x, y, z, w; };
// clang-format on

inline void __syncthreads(simt::Site site = simt::Site::current()) { simt::barrier(site); }

inline void __syncwarp(unsigned mask = simt::kFullWarp, simt::Site site = simt::Site::current()) {
  simt::sync_warp(mask, site);
}

namespace simt {

template <typename T>
T shuffle_as(unsigned mask, T value, int source, Site site) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  bits = shuffle(mask, bits, source, site);
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace simt

// `width`, as everywhere in convkit, is the whole warp.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, simt::Site site = simt::Site::current()) {
  return simt::shuffle_as(mask, value, source & 31, site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, simt::Site site = simt::Site::current()) {
  return simt::shuffle_as(mask, value, simt::lane() ^ bits, site);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, simt::Site site = simt::Site::current()) {
  return simt::shuffle_as(mask, value, simt::lane() + static_cast<int>(delta), site);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, simt::Site site = simt::Site::current()) {
  return simt::shuffle_as(mask, value, simt::lane() - static_cast<int>(delta), site);
}
inline unsigned __ballot_sync(unsigned mask, bool predicate, simt::Site site = simt::Site::current()) {
  return simt::ballot(mask, predicate, site);
}
inline bool __any_sync(unsigned mask, bool predicate, simt::Site site = simt::Site::current()) {
  return simt::ballot(mask, predicate, site) != 0;
}
inline bool __all_sync(unsigned mask, bool predicate, simt::Site site = simt::Site::current()) {
  return simt::ballot(mask, predicate, site) == mask;
}

inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t{a} * b >> 32); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return x ? std::countr_zero(static_cast<unsigned>(x)) + 1 : 0; }

using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0;

enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = simt::device().multiprocessors;
  return cudaSuccess;
}

struct cudaFuncAttributes {
  int ptxVersion, maxThreadsPerBlock;
};
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*)()) {
  attributes->ptxVersion = simt::device().compute_capability;
  attributes->maxThreadsPerBlock = attributes->ptxVersion == 90 ? 128 : 256;  // see device.cu
  return cudaSuccess;
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

inline const char* cudaGetErrorString(cudaError_t) { return simt::error().c_str(); }
