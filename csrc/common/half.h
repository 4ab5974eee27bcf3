// 16-bit floating-point numbers as storage: they are widened to float to compute and rounded once, to nearest
// even. All of it is constexpr, which lets device code use it; there the conversions are instructions.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace convkit {

struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  constexpr explicit BFloat16(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    if (!std::is_constant_evaluated()) {
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
      return;
    }
#endif
    const uint32_t u = std::bit_cast<uint32_t>(x);
    bits = x != x ? 0x7FC0 : static_cast<uint16_t>((u + 0x7FFF + ((u >> 16) & 1)) >> 16);
  }
  constexpr operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

struct Half {
  uint16_t bits = 0;

  Half() = default;
  constexpr explicit Half(float x) {
#ifdef __CUDA_ARCH__
    if (!std::is_constant_evaluated()) {
      asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
      return;
    }
#endif
    const uint32_t u = std::bit_cast<uint32_t>(x);
    const uint16_t sign = static_cast<uint16_t>(u >> 16) & 0x8000;
    const float magnitude = std::bit_cast<float>(u & 0x7FFFFFFF);
    if (magnitude != magnitude) {
      bits = sign | 0x7E00;
    } else if (magnitude >= 65520.0f) {
      bits = sign | 0x7C00;
    } else if (magnitude < 0x1p-14f) {  // subnormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits
      bits = sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(magnitude + 0.5f) - 0x3F000000);
    } else {
      const uint32_t m = u & 0x7FFFFFFF;
      bits = sign | static_cast<uint16_t>((m - 0x38000000 + 0x0FFF + ((m >> 13) & 1)) >> 13);
    }
  }
  constexpr operator float() const {
#ifdef __CUDA_ARCH__
    if (!std::is_constant_evaluated()) {
      float x;
      asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
      return x;
    }
#endif
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
    const uint32_t rest = bits & 0x7FFF;
    if (rest >= 0x7C00) return std::bit_cast<float>(sign | 0x7F800000 | (rest & 0x3FF) << 13);
    if (rest < 0x400) {  // zero and subnormals
      const float magnitude = static_cast<float>(rest) * 0x1p-24f;
      return sign ? -magnitude : magnitude;
    }
    return std::bit_cast<float>(sign | ((rest << 13) + 0x38000000));
  }
};

// The type that sums of T are kept in.
template <typename T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<float> {
  using type = double;  // the generic kernels are the accurate fallback
};
template <>
struct Accumulator<double> {
  using type = double;
};

}  // namespace convkit
