// SPDX-License-Identifier: Apache-2.0
// Elements taken at listed positions of every dimension: flip, roll and pad are lists.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

/// Position that no element has: the result is the fill there.
inline constexpr std::int64_t kFill = -1;

/// out[i, j, ...] = in[from[0][i], from[1][j], ...], `fill` where a position is kFill. One list per dimension, as long as the result's. Same dtype, any
/// strides.
void take_grid(const Tensor& in, std::span<const std::vector<std::int64_t>> from, const Scalar& fill, const Tensor& out);

/// sums[..., first + i * step + j, ...] += windows[..., i, ..., j], where that is inside: the windows of dimension `dim`, whose elements are the last
/// dimension, added in rising order.
/// sums is row-major; f32 sums for bf16 and f16, rounded once.
void add_windows(const Tensor& windows, int dim, std::int64_t step, std::int64_t first, const Tensor& sums);

}  // namespace dtensor::local::cpu
