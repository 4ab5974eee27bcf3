// As faults.cu, of what only Hopper has: a product of a warpgroup, of a matrix stored to shared memory and one copied
// to it, and the same with one fault each. One block of 128 threads: out[6, 64] = a[6, 8] b[64, 8]^T, whose numbers are
// the first of `in`, and those from 128 on, twice.
#include "cuda/intrinsics.cuh"
#include "cuda/launch.cuh"

namespace convkit::cuda {
namespace {

constexpr int kThreads = 128, kCount = 384, kRows = 64, kOutputRows = 6;

struct Matrix {
  alignas(1024) float row[kRows][32];
  float* vector(int i, int which) { return &row[i][(which ^ i % 8) * 4]; }
};
struct Shared {
  Matrix a, b;
  ArrivalBarrier arrival;
};

enum class WgmmaFault { kNone, kNoFence, kNoArrival, kTooFewBytes, kNoBarrier, kOverwritten };
template <WgmmaFault Fault>
__global__ void wgmma_product(float* out, const float* in) {
  auto& shared = shared_memory<Shared>();
  const int thread = threadIdx.x, lane = thread % 32;
  for (int k = 0; k < 4; ++k)
    shared.a.vector(thread / 2, thread % 2)[k] = thread < 2 * kOutputRows ? in[4 * thread + k] : 0.0f;
  if (thread == 0) shared.arrival.start();
  __syncthreads();
  if (thread == 0) {
    shared.arrival.expect(kRows * 32);
    for (int i = 0; i < 2 * kRows - (Fault == WgmmaFault::kTooFewBytes ? 1 : 0); ++i)
      shared.arrival.copy(shared.b.vector(i / 2, i % 2), in + 128 + i * 4 % 256, 16);
  }
  if constexpr (Fault != WgmmaFault::kNoArrival) shared.arrival.wait(0);
  if constexpr (Fault != WgmmaFault::kNoFence) fence_async_shared();
  if constexpr (Fault != WgmmaFault::kNoBarrier) __syncthreads();
  float sums[8][4] = {};
  wgmma_begin();
  wgmma<float, 64>(sums, wgmma_descriptor(&shared.a), wgmma_descriptor(&shared.b));
  wgmma_commit();
  if constexpr (Fault == WgmmaFault::kOverwritten) shared.a.vector(thread / 2, thread % 2)[0] += 1.0f;
  wgmma_wait<0>();
  wgmma_settle(sums);
  if (thread >= 4 * kOutputRows) return;
  for (int j = 0; j < 8; ++j)
    for (int i = 0; i < 2; ++i) out[lane / 4 * kRows + 8 * j + lane % 4 * 2 + i] = sums[j][i];
}

using Kernel = void (*)(float*, const float*);

int run(Kernel kernel, float* out, const float* in) {
  simt::forget_global_memory();
  simt::allow(out, kCount * sizeof(float), true);
  simt::allow(in, kCount * sizeof(float), false);
  return launch(kernel, {1, kThreads, sizeof(Shared)}, nullptr, out, in);
}

}  // namespace
}  // namespace convkit::cuda

using namespace convkit::cuda;

#define WGMMA_FAULT(NAME, FAULT)                                                                                \
  extern "C" [[gnu::visibility("default")]] int wgmma_##NAME##_fault(int broken, float* out, const float* in) { \
    return run(broken ? wgmma_product<FAULT> : wgmma_product<WgmmaFault::kNone>, out, in);                      \
  }
WGMMA_FAULT(without_fence, WgmmaFault::kNoFence)
WGMMA_FAULT(before_arrival, WgmmaFault::kNoArrival)
WGMMA_FAULT(of_too_few_bytes, WgmmaFault::kTooFewBytes)
WGMMA_FAULT(without_barrier, WgmmaFault::kNoBarrier)
WGMMA_FAULT(of_what_is_overwritten, WgmmaFault::kOverwritten)
