// What the lanes of a warp do together. Compiled apart from the kernels, since it looks into the stacks of all lanes.
#pragma once

#include <cstdint>

#include "simt.h"

namespace simt {

constexpr uint32_t kFullWarp = 0xFFFFFFFF;

int lane();
void sync_warp(uint32_t mask, Site site);

// The value that lane `source` gives; the lane's own where there is no such lane, which CUDA leaves undefined.
uint64_t shuffle(uint32_t mask, uint64_t value, int source, Site site);
uint32_t ballot(uint32_t mask, bool predicate, Site site);

// As csrc/cuda/intrinsics.cuh describes them.
void ldmatrix_x4(uint32_t (&matrices)[4], const void* row, bool transposed, Site site);
enum class Element { kTf32, kBFloat16, kHalf };
// A matrix in shared memory is given by the address of its first row.
void wgmma(Element element, float* sums, int columns, uint64_t a, uint64_t b, Site site);
void wgmma_commit(Site site);
void wgmma_wait(int groups_left, Site site);
void mma(Element element, float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site);

}  // namespace simt
