// SPDX-License-Identifier: Apache-2.0
// Products of strided matrices on a device: which layouts cuBLASLt takes, what is copied first, and which products make up one call.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "local/cpu/gemm.h"
#include "local/cuda/products.h"
#include "local/cuda/rank_device.h"

namespace dtensor::local::cuda {

/// As cpu::gemm; out may be f32 for bf16 and f16 operands, and the addend then is. Sums run in whatever fixed order the algorithm for these sizes,
/// strides and alignments has.
void multiply(const cpu::GemmCall& call, Dtype out_dtype);

/// How cuBLASLt reads a matrix of these strides where it can: one dim side by side, the rows (columns) apart from each other. batch and alignment are not set.
std::optional<ProductMatrix> product_matrix(std::int64_t rows, std::int64_t columns, std::int64_t row, std::int64_t column) noexcept;
/// The largest power of two up to 256 that divides the address.
int alignment_of(const void* address) noexcept;

/// The batch dims of a call, sizes 1 dropped and neighbours merged where they are one run in every operand: operand 0 is a, then b, addend, out.
struct ProductBatch {
  int ndim = 0;
  std::array<std::int64_t, kMaxDims> sizes{};
  std::array<std::array<std::int64_t, kMaxDims>, 4> strides{};
  std::int64_t numel() const noexcept;
  /// The dim that one call of cuBLASLt runs over; -1 without dims.
  int longest() const noexcept;
};
ProductBatch product_batch(const cpu::GemmCall& call) noexcept;

}  // namespace dtensor::local::cuda
