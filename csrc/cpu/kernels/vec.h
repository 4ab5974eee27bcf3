// A vector of floats as wide as the ISA's registers, in the compilers' vector extension: one source for every
// ISA.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

namespace convkit {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;  // SSE2, NEON
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4)));  // what comparing two Vec gives: 0 or -1 a lane
typedef float UnalignedVec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int32_t UnalignedIntVec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
inline IntVec load(const int32_t* p) { return *reinterpret_cast<const UnalignedIntVec*>(p); }
inline void store(int32_t* p, IntVec v) { *reinterpret_cast<UnalignedIntVec*>(p) = v; }
inline Vec broadcast(float x) { return x - Vec{}; }

// The first `count` lanes, 0 < count <= kLanes; the others are zero, or stay unwritten.
inline Vec load_first(const float* p, int64_t count) {
  Vec v{};
  std::memcpy(&v, p, count * sizeof(float));
  return v;
}
inline void store_first(float* p, Vec v, int64_t count) { std::memcpy(p, &v, count * sizeof(float)); }

// max(0, x) as torch's relu: NaN stays NaN and -0.0 stays -0.0.
inline Vec relu(Vec x) { return x < Vec{} ? Vec{} : x; }

// Lanes of a followed by lanes of b, picked by constant indices.
template <int... Index>
inline Vec pick(Vec a, Vec b, std::integer_sequence<int, Index...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, Index...);
#else
  return __builtin_shuffle(a, b, IntVec{Index...});
#endif
}

}  // namespace
}  // namespace convkit
