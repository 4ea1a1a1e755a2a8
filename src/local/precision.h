// SPDX-License-Identifier: Apache-2.0
// How exact products of f32 matrices are on devices that offer a choice.
#pragma once

#include <cstdint>

namespace dtensor::local {

enum class MatmulPrecision : std::uint8_t {
  highest,  ///< f32 throughout
  high,     ///< operands rounded to TF32 (10 bits of mantissa), sums in f32
};
/// Of the process. The CPU has highest alone.
MatmulPrecision matmul_precision() noexcept;
void set_matmul_precision(MatmulPrecision precision) noexcept;

}  // namespace dtensor::local
