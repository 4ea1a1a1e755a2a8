// SPDX-License-Identifier: Apache-2.0
// Sums and products in which integers wrap around.
#pragma once

#include <cstdint>
#include <type_traits>

#include "local/device_code.h"

namespace dtensor::local::formulas {

template <class T>
DTENSOR_DEVICE constexpr T plus(T a, T b) noexcept {
  if constexpr (std::is_integral_v<T>) return static_cast<T>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  else return a + b;
}
template <class T>
DTENSOR_DEVICE constexpr T minus(T a, T b) noexcept {
  if constexpr (std::is_integral_v<T>) return static_cast<T>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
  else return a - b;
}
template <class T>
DTENSOR_DEVICE constexpr T times(T a, T b) noexcept {
  if constexpr (std::is_integral_v<T>) return static_cast<T>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
  else return a * b;
}

}  // namespace dtensor::local::formulas
