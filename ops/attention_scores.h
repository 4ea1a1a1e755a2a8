// SPDX-License-Identifier: Apache-2.0
// Attention with its score matrix in memory, as an expression of other ops: where the fused op does not go.
#pragma once

#include "dtensor/ops/attention.h"

namespace dtensor::ops {

/// For a mask that asks for a gradient, and for dropout. Four dims, checked.
DTensor attention_with_scores(const DTensor& query, const DTensor& key, const DTensor& value, const AttentionOptions& options);

}  // namespace dtensor::ops
