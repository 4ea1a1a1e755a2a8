// SPDX-License-Identifier: Apache-2.0
// Attention in bf16 and f16 by the tensor cores.
#pragma once

#include "local/cuda/attention_problem.h"

namespace dtensor::local::cuda {

/// The greatest widths that these take, forward and backward.
inline constexpr std::int64_t kMmaWidth = 256, kMmaBackwardWidth = 128;
/// The greatest lengths.
inline constexpr std::int64_t kMmaLength = 1 << 30;

void attention_mma(const AttentionProblem& p, const EarlierAttention& earlier, const AttentionResult& out, float* logsumexp, Stream stream);
void attention_backward_mma(const AttentionProblem& p, const AttentionSlopes& slopes, const AttentionResult& query, const AttentionResult& key,
                            const AttentionResult& value, Stream stream);

}  // namespace dtensor::local::cuda
