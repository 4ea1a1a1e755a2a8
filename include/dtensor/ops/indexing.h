// SPDX-License-Identifier: Apache-2.0
// Writing at computed indices, and indexing with several index tensors. A split dimension that is written stays split: each rank keeps what falls
// into its part. Indices are i64 or i32; one outside the global range ends the run on all ranks with an error that names it. Where several writes
// meet, the last in row-major order of the index counts; sums are added in that order. Collective over the mesh of the inputs; differentiable in the
// floating tensors, twice too.
#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>

#include "dtensor/distributed_tensor.h"

namespace dtensor {

/// out = input, but out[..., index[..., i, ...], ...] = src[..., i, ...] (or value): index has input's number of dims and, but at `dim`, at most its
/// sizes; src is at least as large as index.
DTENSOR_EXPORT DTensor scatter(const DTensor& input, int dim, const DTensor& index, const DTensor& src);
DTENSOR_EXPORT DTensor scatter(const DTensor& input, int dim, const DTensor& index, const Scalar& value);
/// The same, added.
DTENSOR_EXPORT DTensor scatter_add(const DTensor& input, int dim, const DTensor& index, const DTensor& src);

struct ScatterReduceOptions {
  bool include_self = true;  ///< false: elements that are written forget what they were
};
/// The same with reduce one of sum, prod, mean, amax and amin (NaN wins, equal elements share the gradient). Of a mean the divisor is the number of elements that
/// meet, floored for integers.
DTENSOR_EXPORT DTensor scatter_reduce(const DTensor& input, int dim, const DTensor& index, const DTensor& src, std::string_view reduce,
                                      const ScatterReduceOptions& options = {});
/// out = input, but where mask (bool, broadcast) is true the elements of source in row-major order. No shape depends on data; a source that is too short
/// ends the run.
DTENSOR_EXPORT DTensor masked_scatter(const DTensor& input, const DTensor& mask, const DTensor& source);

struct IndexAddOptions {
  Scalar alpha = 1;
};
/// out = input, slice i of alpha * source added to slice index[i] of `dim`. index [n].
DTENSOR_EXPORT DTensor index_add(const DTensor& input, int dim, const DTensor& index, const DTensor& source, const IndexAddOptions& options = {});
/// Slices index[i] of `dim` become value, or slice i of source.
DTENSOR_EXPORT DTensor index_fill(const DTensor& input, int dim, const DTensor& index, const Scalar& value);
DTENSOR_EXPORT DTensor index_copy(const DTensor& input, int dim, const DTensor& index, const DTensor& source);

/// input[indices[0], indices[1], ...] as in NumPy: index tensors broadcast together, an empty DTensor takes a whole dim, a bool tensor stands for the
/// places where it is true (every rank waits for their number). Negative indices count from the end. The broadcast dims stand where the index tensors
/// stand, or in front when they are not neighbours.
DTENSOR_EXPORT DTensor index(const DTensor& input, std::span<const DTensor> indices);
inline DTensor index(const DTensor& input, std::initializer_list<DTensor> indices) {
  return index(input, std::span<const DTensor>(indices.begin(), indices.size()));
}
struct IndexPutOptions {
  bool accumulate = false;  ///< add to what is there
};
/// out = input, but index(out, indices) = values (broadcast).
DTENSOR_EXPORT DTensor index_put(const DTensor& input, std::span<const DTensor> indices, const DTensor& values, const IndexPutOptions& options = {});
inline DTensor index_put(const DTensor& input, std::initializer_list<DTensor> indices, const DTensor& values, const IndexPutOptions& options = {}) {
  return index_put(input, std::span<const DTensor>(indices.begin(), indices.size()), values, options);
}

/// gather with dims broadcast and indices that may count from the end; without dim both are flattened.
DTENSOR_EXPORT DTensor take_along_dim(const DTensor& input, const DTensor& indices, std::optional<int> dim = {});

}  // namespace dtensor
