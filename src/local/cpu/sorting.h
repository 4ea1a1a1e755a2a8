// SPDX-License-Identifier: Apache-2.0
// Order: sorting, selection by rank, binary search, different values. NaN is greater than every number; of equal elements the one with the lower index comes first.
#pragma once

#include <cstdint>
#include <optional>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

/// Positions first .. first + count - 1 of every line along `dim` in rising (or falling) order. Any dtype; in row-major.
struct OrderCall {
  int dim = 0;
  std::int64_t first = 0, count = 0;
  bool descending = false;
  bool nan_first = false;  ///< a line with NaN gives its first NaN (the convention of the median)
};
/// values and i64 indices: row-major, with `count` elements where in has those of the line.
void order_lines(const OrderCall& call, const Tensor& in, const Tensor& values, const Tensor& indices);

/// For each of `values` the number of elements of its sorted line that are less (with `right`: not greater). sequence [lines, n], values [lines, m] (or one line of
/// the sequence for all), sorter like the sequence or empty: places of the sequence in rising order. i64 or i32 out like values. All row-major.
void search_lines(const Tensor& sequence, const Tensor& values, const Tensor& sorter, bool right, const Tensor& out);

/// Different slices along `dim` (of all elements where none) in rising order: values like in with the rest of dim undefined, i64 inverse, counts, and their number in
/// the one element of `count`. All row-major.
void distinct(const Tensor& in, std::optional<int> dim, const Tensor& values, const Tensor& inverse, const Tensor& counts, const Tensor& count);

/// Indices of the first elements that differ from 0, as many as `places` [size, ndim] has rows; i64, the rest of the rows is `fill`. in row-major.
void nonzero_places(const Tensor& in, std::int64_t fill, const Tensor& places);

/// counts[b] = number of elements in bin b of equal bins between low and high, the last closed. Floating; in any strides.
void histogram(const Tensor& in, double low, double high, const Tensor& counts);

}  // namespace dtensor::local::cpu
