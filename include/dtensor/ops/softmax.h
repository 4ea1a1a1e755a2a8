// SPDX-License-Identifier: Apache-2.0
// softmax and its relatives. A split `dim` takes the distributed form: a maximum and a sum are reduced, the operand stays where it is.
// Computed in f32 for bf16 and f16. Collective over the mesh of the input.
#pragma once

#include <initializer_list>
#include <optional>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"
#include "dtensor/ops/reductions.h"

namespace dtensor {

struct SoftmaxOptions {
  std::optional<Dtype> dtype = {};  ///< of the result
};
/// exp(x) / sum(exp(x)) along `dim`. Floating dtypes.
DTENSOR_EXPORT DTensor softmax(const DTensor& input, int dim, const SoftmaxOptions& options = {});
/// x - log(sum(exp(x))) along `dim`.
DTENSOR_EXPORT DTensor log_softmax(const DTensor& input, int dim, const SoftmaxOptions& options = {});
/// log(sum(exp(x))) over dimensions, -inf for no element.
DTENSOR_EXPORT DTensor logsumexp(const DTensor& input, int dim, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor logsumexp(const DTensor& input, std::initializer_list<int> dim, const KeepdimOptions& options = {});

}  // namespace dtensor
