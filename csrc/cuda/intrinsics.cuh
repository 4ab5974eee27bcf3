// What CUDA C++ has no function for: but for the conversions of common/half.h, kernels call these and nothing else in
// PTX, so that tests/cuda_host can stand in.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "common/half.h"

namespace convkit::cuda {

constexpr unsigned kFullWarp = 0xFFFFFFFF;

// The shared memory of the block, as large as its launch says and aligned to 128 bytes. T has no initialisers.
template <typename T>
__device__ T& shared_memory() {
  extern __shared__ __align__(128) unsigned char convkit_shared_memory[];
  return *reinterpret_cast<T*>(convkit_shared_memory);
}

__device__ inline unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

// Copies 4, 8 or 16 bytes, both sides aligned to as many, from global to shared memory; zeros, without looking at
// `global`, where not `valid`. They are there for this thread after cp_async_wait, for others after a barrier more.
// Before sm_80 the copy is done at once.
template <int Bytes>
__device__ void cp_async(void* shared, const void* global, bool valid) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
#if __CUDA_ARCH__ >= 800
  const int bytes = valid ? Bytes : 0;
  // By way of L1, where neighbouring taps and blocks find them: in the median of six layers, bfloat16 and TF32, 17 %
  // faster than past it on an H100 (from 3 % slower to 38 % faster).
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global), "n"(Bytes),
               "r"(bytes));
#else
  using Word = std::conditional_t<Bytes == 4, unsigned, std::conditional_t<Bytes == 8, uint2, uint4> >;
  *static_cast<Word*>(shared) = valid ? *static_cast<const Word*>(global) : Word{};
#endif
}

// Closes the group of this thread's copies since the last one; it may be empty.
__device__ inline void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most the last `GroupsLeft` groups of this thread are under way.
template <int GroupsLeft>
__device__ void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(GroupsLeft) : "memory");
#endif
}

// Four 8x8 matrices of 16-bit elements: lane 8 i + r gives the address of row r of matrix i, 16 bytes aligned to as
// many. Lane 4 g + t gets of each, in matrices[i], elements (g, 2 t) and (g, 2 t + 1); transposed, (2 t, g) and
// (2 t + 1, g).
template <bool Transposed = false>
__device__ void ldmatrix_x4(unsigned (&matrices)[4], const void* row) {
  if constexpr (Transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
                 : "r"(shared_address(row))
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The nearest TF32 number, ties away from zero, in the bits of a float; sm_80+.
__device__ inline unsigned to_tf32(float x) {
  unsigned bits = 0;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
#else
  __trap();
#endif
  return bits;
}

// sums[16, 8] += a[16, 8] b[8, 8] in TF32; sm_80+. With lane = 4 g + t: a holds (g, t), (g + 8, t), (g, t + 4),
// (g + 8, t + 4); b (t, g), (t + 4, g); sums (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1).
__device__ inline void mma_tf32(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

// sums[16, 8] += a[16, 16] b[16, 8] of 16-bit elements, two in a register, the first in its low half. With
// lane = 4 g + t: a holds from columns 2 t of rows g and g + 8, then from columns 2 t + 8 of them; b from rows 2 t and
// 2 t + 8 of column g; sums as above. BFloat16 needs sm_80+.
template <typename T>
__device__ void mma(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  static_assert(std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>);
#if __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<T, BFloat16>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  if constexpr (std::is_same_v<T, BFloat16>) {
    __trap();
  } else {
#pragma unroll
    for (int half = 0; half < 2; ++half)  // of the 16 products
      asm volatile(
          "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
          : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
          : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
  }
#endif
}

}  // namespace convkit::cuda
