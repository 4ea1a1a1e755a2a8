// SPDX-License-Identifier: Apache-2.0
// Combination of several sources of equal sizes into one destination: the arithmetic of collectives. No Tensor, no allocation, no threads.
#pragma once

#include <cstdint>
#include <span>

#include "dtensor/placement.h"
#include "dtensor/values.h"

namespace dtensor::local {

/// The table of legal pairs: avg for floating dtypes; sum and product for all but bool; min and max for all (bool: and, or); band, bor and bxor for
/// integers and bool.
bool is_reducible(ReduceOp op, Dtype dtype) noexcept;

/// dst = (source 0 op source 1 op ...) / divisor elementwise, strictly in the order given; bf16 and f16 accumulate in f32 and round once. avg is sum;
/// a divisor other than 1 goes with sum and avg of floating dtypes. NaN wins in min and max; integers wrap. An element's value depends on its sources
/// only, not on addresses or on how a range is cut into calls. dst may be one of the sources (same address and strides), else it overlaps none.
/// `source_strides` holds one list per source, or one list for all. Sizes and strides in elements.
/// @throws InvalidArgument for a pair that is not legal.
void reduce_box(void* dst, std::span<const std::int64_t> dst_strides, std::span<const void* const> sources, std::span<const Shape> source_strides,
                std::span<const std::int64_t> sizes, Dtype dtype, ReduceOp op, std::int64_t divisor = 1);

}  // namespace dtensor::local
