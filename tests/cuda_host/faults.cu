// Kernels that are right, and the same kernels with one fault each: the shim must accept the first and name the second.
// One block of 64 threads (two where a fault needs them) turns `in` into `out`, 384 floats each.
#include "cuda/intrinsics.cuh"
#include "cuda/launch.cuh"

namespace convkit::cuda {
namespace {

constexpr int kThreads = 64, kCount = 384;

// Reverses the first 64 numbers.
template <bool Broken>
__global__ void missing_barrier(float* out, const float* in) {
  auto& shared = shared_memory<float[kThreads]>();
  const int i = threadIdx.x;
  shared[i] = in[i];
  if constexpr (!Broken) __syncthreads();
  out[i] = shared[kThreads - 1 - i];
}

// Reverses each run of 64 numbers, through one buffer.
template <bool Broken>
__global__ void missing_barrier_before_reuse(float* out, const float* in) {
  auto& shared = shared_memory<float[kThreads]>();
  const int i = threadIdx.x;
  for (int run = 0; run < kCount; run += kThreads) {
    shared[i] = in[run + i];
    __syncthreads();
    out[run + i] = shared[kThreads - 1 - i];
    if constexpr (!Broken) __syncthreads();
  }
}

// Doubles every number.
template <bool Broken>
__global__ void load_beyond_the_end(float* out, const float* in) {
  for (int i = threadIdx.x; i < kCount + (Broken ? 1 : 0); i += kThreads) out[i % kCount] = 2 * in[i];
}

template <bool Broken>
__global__ void store_before_the_begin(float* out, const float* in) {
  for (int i = threadIdx.x; i < kCount; i += kThreads) out[Broken ? i - 1 : i] = 2 * in[i];
}

template <bool Broken>
__global__ void store_beyond_shared_memory(float* out, const float* in) {
  auto& shared = shared_memory<float[kThreads]>();
  const int i = threadIdx.x;
  shared[Broken ? i + 1 : i] = in[i];
  __syncthreads();
  out[i] = 2 * shared[Broken ? i + 1 : i];
}

template <bool Broken>
__global__ void load_of_what_was_not_stored(float* out, const float* in) {
  auto& shared = shared_memory<float[kThreads]>();
  const int i = threadIdx.x;
  if (!Broken || i != 7) shared[i] = in[i];
  __syncthreads();
  out[i] = 2 * shared[i];
}

template <bool Broken>
__global__ void store_to_an_input(float* out, const float* in) {
  const int i = threadIdx.x;
  out[i] = 2 * in[i];
  if (Broken && i == 3) const_cast<float*>(in)[i] = 0;
}

template <bool Broken>
__global__ void misaligned_vector(float* out, const float* in) {
  const float4 x = *reinterpret_cast<const float4*>(in + (Broken ? 1 : 0));
  if (threadIdx.x == 0) out[0] = x.x + x.y + x.z + x.w;
}

// Two blocks.
template <bool Broken>
__global__ void blocks_store_to_one_place(float* out, const float* in) {
  const int i = blockIdx.x * (Broken ? kThreads - 1 : kThreads) + threadIdx.x;
  out[i] = 2 * in[i];
}

template <bool Broken>
__global__ void barriers_of_two_branches(float* out, const float* in) {
  auto& shared = shared_memory<float[kThreads]>();
  const int i = threadIdx.x;
  shared[i] = in[i];
  if (Broken && i < 32)
    __syncthreads();
  else
    __syncthreads();
  out[i] = shared[kThreads - 1 - i];
}

// Sums each warp's numbers in all its lanes.
template <bool Broken>
__global__ void shuffle_without_all_lanes(float* out, const float* in) {
  const int i = threadIdx.x;
  float sum = in[i];
  for (int bits = 16; bits > 0; bits /= 2)
    if (!Broken || i != 5) sum += __shfl_xor_sync(kFullWarp, sum, bits);
  out[i] = sum;
}

template <bool Broken>
__global__ void shuffle_after_a_lane_has_ended(float* out, const float* in) {
  const int i = threadIdx.x;
  if (Broken && i == 40) return;
  out[i] = in[i] + __shfl_xor_sync(kFullWarp, in[i], 1);
}

// Exchanges numbers within a warp through shared memory.
template <bool Broken>
__global__ void missing_warp_barrier(float* out, const float* in) {
  auto& shared = shared_memory<float[kThreads]>();
  const int i = threadIdx.x;
  shared[i] = in[i];
  if constexpr (!Broken) __syncwarp();
  out[i] = shared[i ^ 1];
}

template <bool Broken>
__global__ void warp_barrier_between_warps(float* out, const float* in) {
  auto& shared = shared_memory<float[kThreads]>();
  const int i = threadIdx.x;
  shared[i] = in[i];
  __syncwarp();
  out[i] = shared[Broken ? i ^ 32 : i ^ 1];
}

// Asynchronous copies in two stages, reversed run by run.
enum class CopyFault { kNone, kNoWait, kWaitForTooFew, kNoBarrier, kOverwritten };
template <CopyFault Fault>
__global__ void copy_in_two_stages(float* out, const float* in) {
  auto& stage = shared_memory<float[2][kThreads]>();
  const int i = threadIdx.x, runs = kCount / kThreads;
  cp_async<4>(&stage[0][i], in + i, true);
  cp_async_commit();
  for (int run = 0; run < runs; ++run) {
    const int next = run + 1;
    if (Fault != CopyFault::kOverwritten && run > 0) __syncthreads();
    if (next < runs) cp_async<4>(&stage[next % 2][i], in + next * kThreads + i, true);
    cp_async_commit();
    if constexpr (Fault == CopyFault::kWaitForTooFew)
      cp_async_wait<2>();
    else if constexpr (Fault != CopyFault::kNoWait)
      cp_async_wait<1>();
    if constexpr (Fault != CopyFault::kNoBarrier) __syncthreads();
    out[run * kThreads + i] = stage[run % 2][kThreads - 1 - i];
  }
}

// out[16, 8] = a[16, K] b[8, K]^T, whose numbers follow one another in `in`; one warp. Broken: a lane map of B that is
// that of its transpose.
template <typename T, bool Broken>
__global__ void mma_lane_map(float* out, const float* in) {
  constexpr bool kTf32 = sizeof(T) == 4;
  constexpr int kK = kTf32 ? 8 : 16;
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  const auto word = [&](const float* row, int half) {
    if constexpr (kTf32) {
      return to_tf32(row[t + 4 * half]);
    } else {
      const float* pair = row + 2 * t + 8 * half;
      return unsigned{T(pair[0]).bits} | unsigned{T(pair[1]).bits} << 16;
    }
  };
  const float *a = in, *b = in + 16 * kK;
  const unsigned fragment_a[4] = {word(a + g * kK, 0), word(a + (g + 8) * kK, 0), word(a + g * kK, 1),
                                  word(a + (g + 8) * kK, 1)};
  const int column = Broken ? (g + 1) % 8 : g;
  const unsigned fragment_b[2] = {word(b + column * kK, 0), word(b + column * kK, 1)};
  float sums[4] = {};
  if constexpr (kTf32)
    mma_tf32(sums, fragment_a, fragment_b);
  else
    mma<T>(sums, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
}

// The same of 16-bit numbers by way of shared memory and ldmatrix, A [16, 16] and B [16, 8], which needs transposing.
template <bool Broken>
__global__ void ldmatrix_lane_map(float* out, const float* in) {
  struct Shared {
    Half a[16][16], b[16][16];
  };
  auto& shared = shared_memory<Shared>();
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) {
    shared.a[i / 16][i % 16] = Half(in[i]);
    shared.b[i / 16][i % 16] = Half(i % 16 < 8 ? in[256 + i / 16 * 8 + i % 16] : 0.0f);
  }
  __syncwarp();
  const int row = lane % 8, matrix = lane / 8;
  unsigned a[4], b[4];
  ldmatrix_x4(a, &shared.a[row + matrix % 2 * 8][matrix / 2 * 8]);
  ldmatrix_x4<!Broken>(b, &shared.b[row + matrix % 2 * 8][matrix / 2 * 8]);
  float sums[4] = {};
  mma<Half>(sums, a, {b[0], b[1]});
  const int g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
}

using Kernel = void (*)(float*, const float*);

int run(Kernel kernel, Grid grid, float* out, const float* in) {
  simt::forget_global_memory();
  simt::allow(out, kCount * sizeof(float), true);
  simt::allow(in, kCount * sizeof(float), false);
  return launch(kernel, grid, nullptr, out, in);
}

}  // namespace
}  // namespace convkit::cuda

using namespace convkit::cuda;

#define FAULT(NAME, BLOCKS)                                                                             \
  extern "C" [[gnu::visibility("default")]] int NAME##_fault(int broken, float* out, const float* in) { \
    return run(broken ? NAME<true> : NAME<false>, {BLOCKS, kThreads, kThreads * 4}, out, in);           \
  }
FAULT(missing_barrier, 1)
FAULT(missing_barrier_before_reuse, 1)
FAULT(load_beyond_the_end, 1)
FAULT(store_before_the_begin, 1)
FAULT(store_beyond_shared_memory, 1)
FAULT(load_of_what_was_not_stored, 1)
FAULT(store_to_an_input, 1)
FAULT(misaligned_vector, 1)
FAULT(blocks_store_to_one_place, 2)
FAULT(barriers_of_two_branches, 1)
FAULT(shuffle_without_all_lanes, 1)
FAULT(shuffle_after_a_lane_has_ended, 1)
FAULT(missing_warp_barrier, 1)
FAULT(warp_barrier_between_warps, 1)

#define COPY_FAULT(NAME, FAULT)                                                                         \
  extern "C" [[gnu::visibility("default")]] int NAME##_fault(int broken, float* out, const float* in) { \
    const Kernel kernel = broken ? copy_in_two_stages<FAULT> : copy_in_two_stages<CopyFault::kNone>;    \
    return run(kernel, {1, kThreads, 2 * kThreads * 4}, out, in);                                       \
  }
COPY_FAULT(copy_not_waited_for, CopyFault::kNoWait)
COPY_FAULT(copy_waited_for_too_early, CopyFault::kWaitForTooFew)
COPY_FAULT(copy_without_barrier, CopyFault::kNoBarrier)
COPY_FAULT(copy_into_what_is_read, CopyFault::kOverwritten)

#define LANE_MAP(NAME, KERNEL, ...)                                                                     \
  extern "C" [[gnu::visibility("default")]] int NAME##_fault(int broken, float* out, const float* in) { \
    return run(broken ? KERNEL<__VA_ARGS__ true> : KERNEL<__VA_ARGS__ false>, {1, 32, 1024}, out, in);  \
  }
#define COMMA ,
LANE_MAP(mma_tf32, mma_lane_map, float COMMA)
LANE_MAP(mma_half, mma_lane_map, convkit::Half COMMA)
LANE_MAP(mma_bfloat16, mma_lane_map, convkit::BFloat16 COMMA)
LANE_MAP(ldmatrix, ldmatrix_lane_map)
