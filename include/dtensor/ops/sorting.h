// SPDX-License-Identifier: Apache-2.0
// Order along a dimension, and binary search. NaN is greater than every number; among equal elements the one with the lower index comes first, so
// every order is stable. A split dimension that is ordered becomes whole, others being split instead; where there is no other, sort exchanges what
// lies between samples and its results stay split, and kthvalue and median count, so that no element moves. Values are differentiable, indices are i64. Collective over the mesh of the input. @throws InvalidArgument for a dim or a k that does not exist.
#pragma once

#include <optional>
#include <string_view>

#include "dtensor/distributed_tensor.h"

namespace dtensor {

struct ValuesAndIndices {
  DTensor values, indices;
};
struct SortOptions {
  bool descending = false;
  bool stable = false;  ///< always so
};
DTENSOR_EXPORT ValuesAndIndices sort(const DTensor& input, int dim = -1, const SortOptions& options = {});
DTENSOR_EXPORT DTensor argsort(const DTensor& input, int dim = -1, const SortOptions& options = {});
/// Along the first dim, rising.
DTENSOR_EXPORT DTensor msort(const DTensor& input);
struct TopkOptions {
  bool largest = true;
  bool sorted = true;  ///< always so
};
/// The k largest (or smallest) elements of each line. A tensor without dims gives itself.
DTENSOR_EXPORT ValuesAndIndices topk(const DTensor& input, std::int64_t k, int dim = -1, const TopkOptions& options = {});
struct OrderOptions {
  bool keepdim = false;
};
/// The k-th smallest element (k from 1) of each line.
DTENSOR_EXPORT ValuesAndIndices kthvalue(const DTensor& input, std::int64_t k, int dim = -1, const OrderOptions& options = {});
/// The lower of the two middle elements; NaN where there is one. Without dim: of all elements; where there is none NaN, or the least integer.
DTENSOR_EXPORT DTensor median(const DTensor& input);
DTENSOR_EXPORT ValuesAndIndices median(const DTensor& input, int dim, const OrderOptions& options = {});

struct SearchOptions {
  bool out_int32 = false;
  bool right = false;          ///< behind equal elements
  std::string_view side = "";  ///< "left" or "right": the same as right
  DTensor sorter = {};         ///< the order in which sorted_sequence rises
};
/// For each element of input the index before which it goes into its line of sorted_sequence: [n], or input's sizes but the last. No gradient. A
/// split sequence stays so: each rank counts in its part.
DTENSOR_EXPORT DTensor searchsorted(const DTensor& sorted_sequence, const DTensor& input, const SearchOptions& options = {});
struct BucketizeOptions {
  bool out_int32 = false, right = false;
};
/// searchsorted(boundaries, input).
DTENSOR_EXPORT DTensor bucketize(const DTensor& input, const DTensor& boundaries, const BucketizeOptions& options = {});

}  // namespace dtensor
