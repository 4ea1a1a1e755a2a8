// SPDX-License-Identifier: Apache-2.0
// The 16-bit floating element types. They store and convert; arithmetic is done in float.
#pragma once

#include <bit>
#include <cstdint>

namespace dtensor {

/// 1 sign, 8 exponent, 7 mantissa bits. Conversion from float rounds to nearest even; NaN stays NaN.
struct BFloat16 {
  std::uint16_t bits = 0;
  constexpr BFloat16() = default;
  constexpr explicit BFloat16(float value) noexcept {
    const auto u = std::bit_cast<std::uint32_t>(value);
    if ((u & 0x7fffffffu) > 0x7f800000u) bits = static_cast<std::uint16_t>((u >> 16) | 0x40u);
    else bits = static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  constexpr explicit operator float() const noexcept { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// IEEE binary16. Conversion from float rounds to nearest even, overflows to infinity, keeps subnormals.
struct Half {
  std::uint16_t bits = 0;
  constexpr Half() = default;
  constexpr explicit Half(float value) noexcept {
    const auto u = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
    const std::uint32_t a = u & 0x7fffffffu;
    if (a >= 0x47800000u) {  // 65536 and above, infinity, NaN
      bits = static_cast<std::uint16_t>(sign | (a > 0x7f800000u ? 0x7e00u : 0x7c00u));
    } else if (a < 0x38800000u) {  // below 2^-14: the float adder does the rounding of a subnormal
      const float magic = std::bit_cast<float>(a) + 0.5f;
      bits = static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(magic) - 0x3f000000u));
    } else {
      const std::uint32_t odd = (a >> 13) & 1u;
      bits = static_cast<std::uint16_t>(sign | ((a - 0x38000000u + 0xfffu + odd) >> 13));
    }
  }
  constexpr explicit operator float() const noexcept {
    // Without a branch, so that loops vectorise: the product moves the exponent and makes subnormals normal.
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16, magnitude = static_cast<std::uint32_t>(bits & 0x7fffu) << 13;
    const auto finite = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
    return std::bit_cast<float>(sign | (magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : finite));
  }
};

}  // namespace dtensor
