// SPDX-License-Identifier: Apache-2.0
// Elements as unsigned integers of the same order (as local/cpu/order_keys.h has them signed): NaN above all numbers, the two zeros equal.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "local/cuda/block.h"
#include "local/strided.h"

namespace dtensor::local::cuda {

template <class T>
inline constexpr int kKeyBits = std::is_same_v<T, bool> ? 1 : static_cast<int>(8 * sizeof(T));

template <class T>
DTENSOR_DEVICE bool is_nan(T value) {
  if constexpr (kIsFloating<T>) return load(value) != load(value);
  else return false;
}
/// In the lowest kKeyBits<T> bits.
template <class T>
DTENSOR_DEVICE std::uint64_t order_key(T value) {
  constexpr std::uint64_t kSign = std::uint64_t{1} << (kKeyBits<T> - 1), kMask = kSign | (kSign - 1);
  if constexpr (kIsFloating<T>) {
    if (is_nan(value)) return kMask;
    if (load(value) == 0) return kSign;
    using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>;
    const std::uint64_t bits = std::bit_cast<Bits>(value);
    return (bits & kSign) != 0 ? ~bits & kMask : bits | kSign;
  } else if constexpr (std::is_signed_v<T>) {
    return (static_cast<std::uint64_t>(value) ^ kSign) & kMask;
  } else {
    return static_cast<std::uint64_t>(value);
  }
}
/// a before b: NaN after all numbers.
template <class T>
DTENSOR_DEVICE bool is_less(T a, T b) {
  if constexpr (std::is_same_v<T, bool>) return !a && b;
  else return load(a) < load(b) || (is_nan(b) && !is_nan(a));
}

}  // namespace dtensor::local::cuda
