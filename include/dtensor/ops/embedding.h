// SPDX-License-Identifier: Apache-2.0
// Reading at computed indices. The dimension that is read may be split (Partial(sum) results): no table is gathered.
// Indices are i64 or i32 and count from 0; one outside the global range ends the run on all ranks with an error that names it.
#pragma once

#include <optional>

#include "dtensor/distributed_tensor.h"

namespace dtensor {

struct EmbeddingOptions {
  std::optional<std::int64_t> padding_idx = {};  ///< a row that gets no gradient
  bool scale_grad_by_freq = false;               ///< the gradient of a row is divided by how often it is read
};
/// input [...] of indices, weight [v, d] -> [..., d].
DTENSOR_EXPORT DTensor embedding(const DTensor& input, const DTensor& weight, const EmbeddingOptions& options = {});
/// out[..., i, ...] = input[..., index[..., i, ...], ...]: index has input's number of dims and, but at `dim`, at most its sizes.
DTENSOR_EXPORT DTensor gather(const DTensor& input, int dim, const DTensor& index);
/// index [n]: the listed slices of `dim`.
DTENSOR_EXPORT DTensor index_select(const DTensor& input, int dim, const DTensor& index);
/// input [...] -> i64 [..., num_classes], 1 at the index. -1: one more than the largest index, which every rank waits for.
DTENSOR_EXPORT DTensor one_hot(const DTensor& input, std::int64_t num_classes = -1);

}  // namespace dtensor
