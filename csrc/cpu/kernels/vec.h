// A vector of floats as wide as the ISA's registers, in the compilers' vector extension: one source for every
// ISA.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "common/activation.h"
#include "common/half.h"

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
// To memory that is not in this core's cache, or that another core has read: AMD's Zen 5 writes whole lines there at 7
// to 35 GB/s, halves of lines at 35 to 80.
inline void store_far(float* p, Vec v) {
#if defined(__AVX512F__)
  _mm256_storeu_ps(p, _mm512_castps512_ps256((__m512)v));
  _mm256_storeu_ps(p + 8, _mm512_extractf32x8_ps((__m512)v, 1));
#else
  store(p, v);
#endif
}
inline Vec broadcast(float x) { return x - Vec{}; }

// The first `count` lanes, 0 < count <= kLanes; the others are zero, or stay unwritten. Nothing beyond is touched.
#if defined(__AVX512F__)
inline __mmask16 first_lanes(int64_t count) { return static_cast<__mmask16>((1u << count) - 1); }
inline Vec load_first(const float* p, int64_t count) { return (Vec)_mm512_maskz_loadu_ps(first_lanes(count), p); }
inline void store_first(float* p, Vec v, int64_t count) { _mm512_mask_storeu_ps(p, first_lanes(count), (__m512)v); }
#elif defined(__AVX2__)
inline __m256i first_lanes(int64_t count) {
  static constexpr int32_t kMasks[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMasks + 8 - count));
}
inline Vec load_first(const float* p, int64_t count) { return (Vec)_mm256_maskload_ps(p, first_lanes(count)); }
inline void store_first(float* p, Vec v, int64_t count) { _mm256_maskstore_ps(p, first_lanes(count), (__m256)v); }
#else
inline Vec load_first(const float* p, int64_t count) {
  Vec v{};
  std::memcpy(&v, p, count * sizeof(float));
  return v;
}
inline void store_first(float* p, Vec v, int64_t count) { std::memcpy(p, &v, count * sizeof(float)); }
#endif

// bfloat16 in memory: widened when it is loaded; stored as `rounded`, to nearest even, has it.
typedef uint32_t BitsVec __attribute__((vector_size(kLanes * 4)));

template <typename T>
inline Vec rounded(Vec v);
template <>
inline Vec rounded<float>(Vec v) {
  return v;
}
template <>
inline Vec rounded<BFloat16>(Vec v) {
  const BitsVec bits = (BitsVec)v, up = bits + 0x7FFF + (bits >> 16 & 1), quiet_nan = BitsVec{} + 0x7FC00000;
  return (Vec)((BitsVec)(v != v ? quiet_nan : up) & 0xFFFF0000);
}
#if defined(__AVX512F__)
inline Vec widen(__m256i halves) { return (Vec)_mm512_slli_epi32(_mm512_maskz_cvtepu16_epi32(0xFFFF, halves), 16); }
inline __m256i narrow(Vec v) {
  return _mm512_maskz_cvtepi32_epi16(0xFFFF, (__m512i)((BitsVec)rounded<BFloat16>(v) >> 16));
}
inline Vec load(const BFloat16* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline void store(BFloat16* p, Vec v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v)); }
inline Vec load_first(const BFloat16* p, int64_t count) {
  return widen(_mm256_maskz_loadu_epi16(first_lanes(count), p));
}
inline void store_first(BFloat16* p, Vec v, int64_t count) {
  _mm256_mask_storeu_epi16(p, first_lanes(count), narrow(v));
}
#else
inline Vec load(const BFloat16* p) {
#if defined(__AVX2__)
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return (Vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16);
#else
  Vec v;
  for (int lane = 0; lane < kLanes; ++lane) v[lane] = p[lane];
  return v;
#endif
}
inline void store(BFloat16* p, Vec v) {
  const BitsVec halves = (BitsVec)rounded<BFloat16>(v) >> 16;
#if defined(__AVX2__)
  const __m128i low = _mm256_castsi256_si128((__m256i)halves), high = _mm256_extracti128_si256((__m256i)halves, 1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(low, high));
#else
  for (int lane = 0; lane < kLanes; ++lane) p[lane].bits = static_cast<uint16_t>(halves[lane]);
#endif
}
inline Vec load_first(const BFloat16* p, int64_t count) {
  BFloat16 all[kLanes] = {};
  std::memcpy(all, p, count * sizeof(BFloat16));
  return load(all);
}
inline void store_first(BFloat16* p, Vec v, int64_t count) {
  BFloat16 all[kLanes];
  store(all, v);
  std::memcpy(p, all, count * sizeof(BFloat16));
}
#endif
inline void store_far(BFloat16* p, Vec v) { store(p, v); }  // half a line at most

// Calls for what will be read 8 KiB further on, which need not exist: a core alone does not keep enough reads under way
// to fill the memory bus. Max-pooling of 38 MB takes 1.2 instead of 4.8 ms contiguous, 1.4 instead of 2.5
// channels_last.
inline void prefetch_ahead(const float* p) { __builtin_prefetch(reinterpret_cast<const char*>(p) + 8192); }

// kLanes bytes as integers, and integers of 0 to 255 as bytes. GCC finds no short way for a conversion of one vector.
inline IntVec load_bytes(const uint8_t* p) {
#if defined(__AVX512F__)
  return (IntVec)_mm512_maskz_cvtepu8_epi32(0xFFFF, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
  return (IntVec)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  IntVec v;
  for (int lane = 0; lane < kLanes; ++lane) v[lane] = p[lane];
  return v;
#endif
}
inline void store_bytes(uint8_t* p, IntVec v) {
#if defined(__AVX512F__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(0xFFFF, (__m512i)v));
#elif defined(__AVX2__)
  const __m128i low = _mm256_castsi256_si128((__m256i)v), high = _mm256_extracti128_si256((__m256i)v, 1);
  const __m128i bytes = _mm_shuffle_epi8(_mm_packus_epi32(low, high), _mm_set1_epi64x(0x0E0C0A0806040200));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes);
#else
  for (int lane = 0; lane < kLanes; ++lane) p[lane] = static_cast<uint8_t>(v[lane]);
#endif
}
inline IntVec load_first_bytes(const uint8_t* p, int64_t count) {
#if defined(__AVX512F__)
  return (IntVec)_mm512_maskz_cvtepu8_epi32(0xFFFF, _mm_maskz_loadu_epi8(first_lanes(count), p));
#else
  uint8_t bytes[kLanes] = {};
  std::memcpy(bytes, p, count);
  return load_bytes(bytes);
#endif
}
inline void store_first_bytes(uint8_t* p, IntVec v, int64_t count) {
#if defined(__AVX512F__)
  _mm512_mask_cvtepi32_storeu_epi8(p, first_lanes(count), (__m512i)v);
#else
  uint8_t bytes[kLanes];
  store_bytes(bytes, v);
  std::memcpy(p, bytes, count);
#endif
}
// A row of `count` floats, vector by vector: body(index, lanes), where lanes.load and lanes.store take a whole vector,
// or what is left of the row.
struct WholeVector {
  template <typename T>
  Vec load(const T* p) const {
    return convkit::load(p);
  }
  IntVec load_bytes(const uint8_t* p) const { return convkit::load_bytes(p); }
  template <typename T>
  void store(T* p, Vec v) const {
    convkit::store(p, v);
  }
  void store_far(float* p, Vec v) const { convkit::store_far(p, v); }
  void store_bytes(uint8_t* p, IntVec v) const { convkit::store_bytes(p, v); }
};
struct FirstLanes {
  int64_t count;
  template <typename T>
  Vec load(const T* p) const {
    return load_first(p, count);
  }
  IntVec load_bytes(const uint8_t* p) const { return load_first_bytes(p, count); }
  template <typename T>
  void store(T* p, Vec v) const {
    store_first(p, v, count);
  }
  void store_far(float* p, Vec v) const { store_first(p, v, count); }
  void store_bytes(uint8_t* p, IntVec v) const { store_first_bytes(p, v, count); }
};
template <typename Body>
inline void for_each_vector_of(int64_t count, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, WholeVector{});
  if (i < count) body(i, FirstLanes{count - i});
}

inline IntVec broadcast_int(int32_t x) { return x + IntVec{}; }
// Whether a comparison held in any lane.
inline bool any(IntVec held) {
  int32_t lanes = 0;
  for (int lane = 0; lane < kLanes; ++lane) lanes |= held[lane];
  return lanes != 0;
}

// max(0, x) as torch's relu: NaN stays NaN and -0.0 stays -0.0.
inline Vec relu(Vec x) { return x < Vec{} ? Vec{} : x; }

inline Vec activate(Activation activation, Vec x) {
  if (activation == Activation::kNone) return x;
  const Vec positive = relu(x), six = broadcast(6.0f);
  return activation == Activation::kRelu6 ? (positive > six ? six : positive) : positive;
}

// Hides from the compiler where x came from.
inline void keep_in_register(Vec& x) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(x));
#elif defined(__x86_64__)
  __asm__("" : "+x"(x));
#else
  (void)x;
#endif
}

// Lanes of a followed by lanes of b, picked by constant indices.
template <int... Index>
inline Vec pick(Vec a, Vec b, std::integer_sequence<int, Index...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, Index...);
#else
  return __builtin_shuffle(a, b, IntVec{Index...});
#endif
}

// p[0], p[2], p[4], ...; reads one float beyond the last of them.
template <int... Lane>
inline Vec load_even(const float* p, std::integer_sequence<int, Lane...>) {
  return pick(load(p), load(p + kLanes), std::integer_sequence<int, 2 * Lane...>{});
}
inline Vec load_even(const float* p) { return load_even(p, std::make_integer_sequence<int, kLanes>{}); }

// Lanes of x picked by an index each.
inline Vec permute(Vec x, IntVec index) {
#if defined(__AVX512F__)
  return (Vec)_mm512_permutexvar_ps((__m512i)index, (__m512)x);
#elif defined(__AVX2__)
  return (Vec)_mm256_permutevar8x32_ps((__m256)x, (__m256i)index);
#else
  Vec picked;
  for (int lane = 0; lane < kLanes; ++lane) picked[lane] = x[index[lane]];
  return picked;
#endif
}

template <int K, int... Lane>
inline Vec splat_in_fours(Vec x, std::integer_sequence<int, Lane...>) {
  return pick(x, x, std::integer_sequence<int, Lane / 4 * 4 + K...>{});
}
// In every four lanes the K-th of them: unlike `permute` it costs nothing beside multiply-adds.
template <int K>
inline Vec splat_in_fours(Vec x) {
  return splat_in_fours<K>(x, std::make_integer_sequence<int, kLanes>{});
}

}  // namespace
}  // namespace convkit
