// What CUDA C++ has no function for: but for the conversions of common/half.h, kernels call these and nothing else in
// PTX, so that tests/cuda_host can stand in.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "common/half.h"

namespace convkit::cuda {

constexpr unsigned kFullWarp = 0xFFFFFFFF;

// The shared memory of the block, as large as its launch says and aligned to 1024 bytes. T has no initialisers.
template <typename T>
__device__ T& shared_memory() {
  extern __shared__ __align__(1024) unsigned char convkit_shared_memory[];
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

// Two numbers in 16 bits each, the first in the low half.
template <typename T>
__device__ unsigned pack_pair(float low, float high) {
#if __CUDA_ARCH__ >= 800
  unsigned pair;
  if constexpr (std::is_same_v<T, BFloat16>)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return T(low).bits | static_cast<unsigned>(T(high).bits) << 16;
#endif
}

// What follows is of sm_90a alone.

// A barrier in shared memory that bytes arrive at: `expect` says how many before those copies are started, and `wait`
// ends when they are there for this thread, which is then what tensor cores may read after the next barrier. Rounds of
// both alternate between parities 0 and 1.
struct ArrivalBarrier {
  uint64_t state;

  // By one thread, before a barrier that comes before anything else here.
  __device__ void start() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(this)) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
  }
  __device__ void expect(unsigned bytes) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(this)), "r"(bytes)
                 : "memory");
#endif
  }
  // Bytes, a multiple of 16 as both addresses are, from global to shared memory.
  __device__ void copy(void* shared, const void* global, unsigned bytes) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(shared)),
                 "l"(global), "r"(bytes), "r"(shared_address(this))
                 : "memory");
#endif
  }
  __device__ void wait(unsigned parity) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile(
        "{\n.reg .pred p;\nagain%=:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@!p bra again%=;\n}" ::"r"(
            shared_address(this)),
        "r"(parity)
        : "memory");
#endif
  }
};

// Orders this thread's stores to shared memory, and its copies that it has waited for, before what tensor cores read of
// it after the next barrier.
__device__ inline void fence_async_shared() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// A matrix in shared memory for wgmma: rows of 128 bytes along the products, whose vectors of 16 bytes are permuted as
// WgmmaOperand has it. `shared` may be any row of an array aligned to 1024 bytes: addresses permute.
__device__ inline uint64_t wgmma_descriptor(const void* shared) {
  constexpr uint64_t kPermuted = uint64_t{1} << 62, kEightRows = uint64_t{1024 / 16} << 32;
  return kPermuted | kEightRows | uint64_t{1} << 16 | (shared_address(shared) & 0x3FFFF) >> 4;
}
__device__ inline uint64_t wgmma_advance(uint64_t descriptor, int bytes) { return descriptor + bytes / 16; }

// Before the first wgmma, and before one after the sums were touched in between.
__device__ inline void wgmma_begin() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

// Closes the group of products since the last one.
__device__ inline void wgmma_commit() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

// Waits until at most the last `GroupsLeft` groups are under way.
template <int GroupsLeft>
__device__ void wgmma_wait() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(GroupsLeft) : "memory");
#endif
}

// After the last wait, so that the optimiser reads no sum before.
template <int Tiles>
__device__ void wgmma_settle(float (&sums)[Tiles][4]) {
#pragma unroll
  for (auto& tile : sums)
#pragma unroll
    for (float& sum : tile) asm volatile("" : "+f"(sum)::"memory");
}

#define CONVKIT_SUMS(i) "+f"(sums[i][0]), "+f"(sums[i][1]), "+f"(sums[i][2]), "+f"(sums[i][3])
#define CONVKIT_SUMS_4(i) CONVKIT_SUMS(i), CONVKIT_SUMS(i + 1), CONVKIT_SUMS(i + 2), CONVKIT_SUMS(i + 3)
#define CONVKIT_WGMMA_64(KIND, LAYOUT)                                                                             \
  asm volatile("wgmma.mma_async.sync.aligned.m64n64" KIND                                                          \
               " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
               "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, 1, 1, 1" LAYOUT ";"              \
               : CONVKIT_SUMS_4(0), CONVKIT_SUMS_4(4)                                                              \
               : "l"(a), "l"(b))
#define CONVKIT_WGMMA_128(KIND, LAYOUT)                                                                            \
  asm volatile("wgmma.mma_async.sync.aligned.m64n128" KIND                                                         \
               " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
               "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, "   \
               "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, "   \
               "%59, %60, %61, %62, %63}, %64, %65, 1, 1, 1" LAYOUT ";"                                            \
               : CONVKIT_SUMS_4(0), CONVKIT_SUMS_4(4), CONVKIT_SUMS_4(8), CONVKIT_SUMS_4(12)                       \
               : "l"(a), "l"(b))

// Starts sums[64, Columns] += a[64, K] b[K, Columns] for the warpgroup; K is 32 bytes, b has its columns as rows. With
// lane = 4 g + t, warp w of the four gets in sums[j] (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1) of rows
// from 16 w and columns from 8 j on.
template <typename T, int Columns>
__device__ void wgmma(float (&sums)[Columns / 8][4], uint64_t a, uint64_t b) {
  static_assert(Columns == 64 || Columns == 128);
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  if constexpr (Columns == 64) {
    if constexpr (std::is_same_v<T, float>)
      CONVKIT_WGMMA_64("k8.f32.tf32.tf32", "");
    else if constexpr (std::is_same_v<T, BFloat16>)
      CONVKIT_WGMMA_64("k16.f32.bf16.bf16", ", 0, 0");
    else
      CONVKIT_WGMMA_64("k16.f32.f16.f16", ", 0, 0");
  } else {
    if constexpr (std::is_same_v<T, float>)
      CONVKIT_WGMMA_128("k8.f32.tf32.tf32", "");
    else if constexpr (std::is_same_v<T, BFloat16>)
      CONVKIT_WGMMA_128("k16.f32.bf16.bf16", ", 0, 0");
    else
      CONVKIT_WGMMA_128("k16.f32.f16.f16", ", 0, 0");
  }
#else
  __trap();
#endif
}
#undef CONVKIT_WGMMA_64
#undef CONVKIT_WGMMA_128
#undef CONVKIT_SUMS_4
#undef CONVKIT_SUMS

}  // namespace convkit::cuda
