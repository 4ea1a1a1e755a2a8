// SPDX-License-Identifier: Apache-2.0
#include "ops/attention_scores.h"

#include <cmath>
#include <limits>

#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/factories.h"
#include "dtensor/ops/matmul.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/random.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/views.h"
#include "ops/reduction_rules.h"

namespace dtensor::ops {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

// Each head of key or value for the query heads that read it.
DTensor for_query_heads(const DTensor& x, std::int64_t heads) {
  const Shape& s = x.shape();
  if (s[1] == heads || s[1] == 0) return x;
  return reshape(expand(unsqueeze(x, 2), {s[0], s[1], heads / s[1], s[2], s[3]}), {s[0], heads, s[2], s[3]});
}

// softmax where a row of nothing but -inf gives 0.
DTensor softmax_or_zero(const DTensor& scores) {
  const DTensor top = without_partial(amax(scores.detach(), -1, {.keepdim = true}));
  const DTensor e = exp(sub(scores, masked_fill(top, isinf(top), 0)));
  const DTensor total = without_partial(sum(e, -1, {.keepdim = true}));
  return div(e, masked_fill(total, eq(total, 0), 1));
}

}  // namespace

DTensor attention_with_scores(const DTensor& query, const DTensor& key, const DTensor& value, const AttentionOptions& o) {
  const std::int64_t heads = query.size(1), length = key.size(2);
  // Scores of bf16 are wrong by several percent of a weight: all is computed in f32.
  const Dtype computed = computation_dtype(query.dtype());
  const DTensor k = in_dtype(for_query_heads(key, heads), computed), v = in_dtype(for_query_heads(value, heads), computed);
  const double scale = o.scale ? *o.scale : 1 / std::sqrt(static_cast<double>(query.size(3)));
  DTensor scores = mul(matmul(in_dtype(query, computed), transpose(k, -2, -1)), scale);
  if (length == 0) return in_dtype(matmul(scores, v), value.dtype());
  if (o.is_causal) {
    const DTensor seen = tril(ones({query.size(2), length}, query.mesh(), {}, {.dtype = Dtype::f32}), o.causal_offset);
    scores = masked_fill(scores, eq(seen, 0), kNever);
  }
  if (o.attn_mask && o.attn_mask.dtype() == Dtype::boolean) scores = masked_fill(scores, logical_not(o.attn_mask), kNever);
  else if (o.attn_mask) scores = add(scores, in_dtype(o.attn_mask, computed));
  DTensor p = softmax_or_zero(scores);
  if (o.dropout_p != 0) p = dropout(p, o.dropout_p);
  return in_dtype(matmul(p, v), value.dtype());
}

}  // namespace dtensor::ops
