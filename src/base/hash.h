// SPDX-License-Identifier: Apache-2.0
// 64-bit mixing for keys and fingerprints; the same numbers on every rank and machine.
#pragma once

#include <cstdint>
#include <string_view>

namespace dtensor::base {

constexpr std::uint64_t mix(std::uint64_t seed, std::uint64_t value) noexcept {
  std::uint64_t x = (seed ^ (value + 0x9e3779b97f4a7c15ull + (seed << 6) + (seed >> 2))) * 0xff51afd7ed558ccdull;
  return x ^ (x >> 32);
}
constexpr std::uint64_t hash_text(std::string_view text) noexcept {
  std::uint64_t h = 0xcbf29ce484222325ull;
  for (char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return h;
}

}  // namespace dtensor::base
