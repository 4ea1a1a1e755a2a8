// SPDX-License-Identifier: Apache-2.0
// Products of matrices that cuBLASLt does not take: integers, any strides, nothing to sum over.
#pragma once

#include <array>
#include <cstdint>

#include "dtensor/values.h"
#include "local/cuda/driver.h"

namespace dtensor::local::cuda {

/// Operands as in cpu::GemmCall; out is row-major.
struct TiledProduct {
  Dtype dtype = Dtype::f32, out_dtype = Dtype::f32;  ///< out_dtype is dtype, or f32 for bf16 and f16; also that of c
  std::int64_t m = 0, n = 0, k = 0;
  struct Operand {
    const void* data = nullptr;
    std::int64_t row = 0, column = 0;
    std::array<std::int64_t, kMaxDims> batch{};
  } a, b, c;  ///< c.data null: none
  int batch_dims = 0;
  std::array<std::int64_t, kMaxDims> batch{};
  void* out = nullptr;
  Scalar alpha = 1, beta = 1;
};
/// out = alpha a b + beta c. Each sum in the order of k, in f32 for bf16 and f16, in the dtype itself otherwise (integers wrap), rounded once.
void tiled_product(const TiledProduct& product, Stream stream);

}  // namespace dtensor::local::cuda
