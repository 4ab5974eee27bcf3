// In place of csrc/cuda/intrinsics.cuh: the same functions as their documentation describes them.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "common/half.h"
#include "memory.h"

namespace convkit::cuda {

using simt::kFullWarp;
using simt::Site;

template <typename T>
T& shared_memory() {
  return *static_cast<T*>(simt::shared_memory());
}

template <int Bytes>
void cp_async(void* shared, const void* global, bool valid) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  simt::copy_async(shared, global, Bytes, valid);
}
inline void cp_async_commit() { simt::commit_copies(); }
template <int GroupsLeft>
void cp_async_wait() {
  simt::wait_for_copies(GroupsLeft);
}

template <bool Transposed = false>
void ldmatrix_x4(unsigned (&matrices)[4], const void* row, Site site = Site::current()) {
  simt::ldmatrix_x4(matrices, row, Transposed, site);
}

inline unsigned to_tf32(float x) {
  const unsigned bits = __float_as_uint(x);
  if ((bits & 0x7F800000) == 0x7F800000) return x != x ? 0x7FFFFFFF : bits;
  return (bits + 0x1000) & 0xFFFFE000;
}

inline void mma_tf32(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2], Site site = Site::current()) {
  simt::mma(simt::Element::kTf32, sums, a, b, site);
}

template <typename T>
void mma(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2], Site site = Site::current()) {
  static_assert(std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>);
  simt::mma(std::is_same_v<T, Half> ? simt::Element::kHalf : simt::Element::kBFloat16, sums, a, b, site);
}

template <typename T>
unsigned pack_pair(float low, float high) {
  return T(low).bits | static_cast<unsigned>(T(high).bits) << 16;
}

struct ArrivalBarrier {
  uint64_t state;

  void start() { simt::start_arrival(this); }
  void expect(unsigned bytes) { simt::expect_arrival(this, bytes); }
  void copy(void* shared, const void* global, unsigned bytes) { simt::copy_arriving(this, shared, global, bytes); }
  void wait(unsigned parity) { simt::wait_for_arrival(this, parity); }
};

inline void fence_async_shared() { simt::fence_async(); }
inline uint64_t wgmma_descriptor(const void* shared) { return reinterpret_cast<uint64_t>(shared); }
inline uint64_t wgmma_advance(uint64_t descriptor, int bytes) { return descriptor + bytes; }
inline void wgmma_begin() {}
template <int Tiles>
void wgmma_settle(float (&)[Tiles][4]) {}
inline void wgmma_commit(Site site = Site::current()) { simt::wgmma_commit(site); }
template <int GroupsLeft>
void wgmma_wait(Site site = Site::current()) {
  simt::wgmma_wait(GroupsLeft, site);
}

template <typename T, int Columns>
void wgmma(float (&sums)[Columns / 8][4], uint64_t a, uint64_t b, Site site = Site::current()) {
  const auto element = std::is_same_v<T, float>      ? simt::Element::kTf32
                       : std::is_same_v<T, BFloat16> ? simt::Element::kBFloat16
                                                     : simt::Element::kHalf;
  simt::wgmma(element, &sums[0][0], Columns, a, b, site);
}

}  // namespace convkit::cuda
