// SPDX-License-Identifier: Apache-2.0
// Values as integers of the same order, for algorithms that compare elements of any dtype, on any rank.
#pragma once

#include <cstdint>
#include <vector>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

/// An element in a total order: by key, then by the place that makes it unique.
struct Placed {
  std::int64_t key = 0, place = 0;
  friend bool operator<(const Placed& a, const Placed& b) noexcept { return a.key != b.key ? a.key < b.key : a.place < b.place; }
  friend bool operator==(const Placed& a, const Placed& b) noexcept = default;
};

/// Of each element in row-major order; NaN is greater than all numbers, the two zeros are equal. `descending`: the order is the opposite one.
std::vector<std::int64_t> order_keys(const Tensor& values, bool descending);
/// The value of a key that is not descending, into element 0 of `out`; a zero is +0.
void value_of_key(std::int64_t key, const Tensor& out);
inline constexpr std::int64_t kNanKey = 0x7ff8000000000000;  ///< of every NaN that is not descending

}  // namespace dtensor::local::cpu
