// SPDX-License-Identifier: Apache-2.0
// Attention whose keys are split along the sequence: no rank ever holds all of them.
#pragma once

#include "dtensor/op.h"

namespace dtensor::ops {

/// Operands of an attention brought to placements in which every rank can work: batch and heads of key and value split as the query's are, or whole.
struct AttentionOperands {
  DTensor query, key, value;
  bool split = false;  ///< the keys are split along the sequence
};
/// @throws InvalidArgument within a RefuseImplicit when something must move.
AttentionOperands arrange_attention(std::string_view op, const DTensor& query, const DTensor& key, const DTensor& value);

struct RingAttention {
  bool causal = false;
  Attribute scale = {};
  std::int64_t offset = 0;
};
/// out and logsumexp, placed as the query. Where query and key are split over the same axes, every rank keeps its queries, and in each of p steps has the keys and
/// values of one rank more: rank r at step j those of rank r - j. What a rank's queries do not see is not sent. The next step's blocks are under way while
/// this one's are worked on, and results are merged as the softmax of a block after another is. Over axes that split the keys alone, each rank's result goes
/// into one reduction.
Results ring_attention(const AttentionOperands& operands, const RingAttention& options);
/// grad_query, grad_key, grad_value. The blocks visit the ranks again; what a rank adds to the gradient of a block goes back to the rank whose block it is and is
/// added there in the type of the sums.
Results ring_attention_backward(const DTensor& grad, const DTensor& out, const DTensor& logsumexp, const AttentionOperands& operands,
                                const RingAttention& options);

}  // namespace dtensor::ops
