// SPDX-License-Identifier: Apache-2.0
// Conversion between element types in kernels: local::convert, by the instructions that devices have for the 16-bit types.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "dtensor/half.h"
#include "local/device_code.h"
#include "local/strided.h"

namespace dtensor::local::cuda {

DTENSOR_DEVICE inline float to_float(Half value) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
#else
  return static_cast<float>(value);
#endif
}
DTENSOR_DEVICE inline float to_float(BFloat16 value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16); }
template <class T>
DTENSOR_DEVICE T from_float(float value) {
#if defined(__CUDA_ARCH__)
  T result;
  if constexpr (std::is_same_v<T, Half>) asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  else asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
#else
  return T(value);
#endif
}

template <class To, class From>
DTENSOR_DEVICE To cast(From value) {
  if constexpr (std::is_same_v<To, From>) return value;
  else if constexpr (kIs16Bit<From>) return cast<To>(to_float(value));
  else if constexpr (kIs16Bit<To>) return from_float<To>(static_cast<float>(value));
  else return convert<To>(value);
}

}  // namespace dtensor::local::cuda
