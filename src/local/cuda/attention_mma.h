// SPDX-License-Identifier: Apache-2.0
// Attention in bf16 and f16 by the tensor cores.
#pragma once

#include "local/cuda/attention_problem.h"

namespace dtensor::local::cuda {

/// The greatest widths that these take, forward and backward, and the greatest lengths.
inline constexpr std::int64_t kMmaWidth = 256, kMmaBackwardWidth = 128, kMmaLength = 1 << 30;

inline std::int64_t width_of(const AttentionProblem& p) { return p.d > p.e ? p.d : p.e; }
inline bool by_mma(const AttentionProblem& p) { return info(p.query.dtype).bytes == 2 && p.t <= kMmaLength && p.s <= kMmaLength; }

/// Queries that a block of threads takes, with so much shared memory; 0: these do not take the problem.
int attention_mma_rows(const AttentionProblem& p, std::size_t shared);
void attention_mma(const AttentionProblem& p, int rows, const KeyParts& parts, const EarlierAttention& earlier, const AttentionResult& out,
                   float* logsumexp, Stream stream);
void attention_mma_by_64(const AttentionProblem& p, const KeyParts& parts, const EarlierAttention& earlier, const AttentionResult& out,
                         float* logsumexp, Stream stream);
bool attention_backward_by_mma(const AttentionProblem& p, std::size_t shared);
void attention_backward_mma(const AttentionProblem& p, const AttentionSlopes& slopes, const AttentionResult& query, const AttentionResult& key,
                            const AttentionResult& value, Stream stream);

}  // namespace dtensor::local::cuda
