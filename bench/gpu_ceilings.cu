// What this GPU does at most, for bench/gpu_check.py: `name,value` lines, in GB/s of a copy (read and written) and in
// TFLOP/s of float32 multiply-adds and of mma.sync, from registers.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <type_traits>

#include "cuda/intrinsics.cuh"

namespace {

using convkit::BFloat16;
using convkit::Half;

constexpr int kThreads = 256, kChains = 16, kSteps = 4096, kRuns = 5;

__global__ void ffma_kernel(float* sums) {
  float x[kChains];
  for (int i = 0; i < kChains; ++i) x[i] = threadIdx.x + i;
  const float a = 1.0f - 1e-6f * threadIdx.x, b = 1e-3f * blockIdx.x;
  for (int step = 0; step < kSteps; ++step)
#pragma unroll
    for (int i = 0; i < kChains; ++i) x[i] = fmaf(x[i], a, b);
  float sum = 0.0f;
  for (int i = 0; i < kChains; ++i) sum += x[i];
  sums[blockIdx.x * kThreads + threadIdx.x] = sum;
}

// Tag is float for TF32.
template <typename Tag>
__global__ void mma_kernel(float* sums) {
  float x[kChains / 2][4] = {};
  const unsigned random = (threadIdx.x + 1) * 2654435761u & 0x3FFF3FFF;  // small numbers in every format
  const unsigned a[4] = {random, random ^ 1, random ^ 2, random ^ 3}, b[2] = {random ^ 4, random ^ 5};
  for (int step = 0; step < kSteps; ++step)
#pragma unroll
    for (int i = 0; i < kChains / 2; ++i)
      if constexpr (std::is_same_v<Tag, float>)
        convkit::cuda::mma_tf32(x[i], a, b);
      else
        convkit::cuda::mma<Tag>(x[i], a, b);
  float sum = 0.0f;
  for (int i = 0; i < kChains / 2; ++i)
    for (int r = 0; r < 4; ++r) sum += x[i][r];
  sums[blockIdx.x * kThreads + threadIdx.x] = sum;
}

void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
  std::exit(1);
}

// The shortest of some runs, in seconds, after one that does not count.
template <typename Work>
double seconds(const Work& work) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  float best = 1e30f;
  for (int run = 0; run <= kRuns; ++run) {
    check(cudaEventRecord(begin));
    work();
    check(cudaGetLastError());
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    float milliseconds = 0.0f;
    check(cudaEventElapsedTime(&milliseconds, begin, end));
    if (run > 0) best = std::min(best, milliseconds);
  }
  return best * 1e-3;
}

}  // namespace

int main() {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0));
  const int blocks = 8 * properties.multiProcessorCount;
  const size_t bytes = std::min<size_t>(size_t{4} << 30, properties.totalGlobalMem / 8);
  char *from, *to;
  check(cudaMalloc(&from, bytes));
  check(cudaMalloc(&to, bytes));
  check(cudaMemset(from, 1, bytes));
  const double copy = seconds([&] { check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice)); });
  std::printf("copy,%.1f\n", 2e-9 * bytes / copy);

  float* sums = reinterpret_cast<float*>(to);
  const double threads = double(blocks) * kThreads, warps = threads / 32;
  const double ffma = seconds([&] { ffma_kernel<<<blocks, kThreads>>>(sums); });
  std::printf("ffma,%.2f\n", 2e-12 * threads * kSteps * kChains / ffma);
  const double products = 1e-12 * warps * kSteps * (kChains / 2) * 2 * 16 * 8;  // times the depth of an instruction
  if (properties.major >= 8) {
    std::printf("tf32,%.1f\n", 8 * products / seconds([&] { mma_kernel<float><<<blocks, kThreads>>>(sums); }));
    std::printf("bfloat16,%.1f\n", 16 * products / seconds([&] { mma_kernel<BFloat16><<<blocks, kThreads>>>(sums); }));
  }
  std::printf("float16,%.1f\n", 16 * products / seconds([&] { mma_kernel<Half><<<blocks, kThreads>>>(sums); }));
}
