// SPDX-License-Identifier: Apache-2.0
// Results whose shape depends on data: all ranks learn the sizes first, so that the caller waits, then each takes its part. What is not said to be
// differentiable is not. Collective over the mesh of the inputs.
#pragma once

#include <optional>
#include <vector>

#include "dtensor/distributed_tensor.h"

namespace dtensor {

/// i64 [count, ndim]: the places of elements that differ from 0, in row-major order.
DTENSOR_EXPORT DTensor nonzero(const DTensor& input);
/// The same as one tensor [count] per dim (one for a tensor without dims).
DTENSOR_EXPORT std::vector<DTensor> nonzero_tuple(const DTensor& input);
/// The first `size` places, then rows of fill_value: a shape that does not depend on data, nothing is waited for.
DTENSOR_EXPORT DTensor nonzero_static(const DTensor& input, std::int64_t size, std::int64_t fill_value = -1);
/// [count]: elements where the bool mask is true, after broadcasting both, in row-major order. Differentiable in input.
DTENSOR_EXPORT DTensor masked_select(const DTensor& input, const DTensor& mask);

struct UniqueOptions {
  bool sorted = true;  ///< always so
  bool return_inverse = false, return_counts = false;
  std::optional<int> dim = {};  ///< none: of the elements of the flattened tensor; else of the slices along dim
};
struct UniqueResult {
  DTensor values;
  DTensor inverse;  ///< where each element (of input's shape) or slice is in values; empty unless asked for
  DTensor counts;   ///< empty unless asked for
};
/// Different values in rising order.
DTENSOR_EXPORT UniqueResult unique(const DTensor& input, const UniqueOptions& options = {});

/// Numbers of equal-width bins between min and max (of the input when both are equal); elements outside count nowhere. Floating dtypes.
struct HistcOptions {
  std::int64_t bins = 100;
  double min = 0, max = 0;
};
DTENSOR_EXPORT DTensor histc(const DTensor& input, const HistcOptions& options = {});
/// input [n] of integers, none negative -> [max(minlength, largest + 1)]: i64 counts, or sums of weights (f64 for integer ones) [n].
struct BincountOptions {
  std::int64_t minlength = 0;
};
DTENSOR_EXPORT DTensor bincount(const DTensor& input, const BincountOptions& options = {});
DTENSOR_EXPORT DTensor bincount(const DTensor& input, const DTensor& weights, const BincountOptions& options = {});

}  // namespace dtensor
