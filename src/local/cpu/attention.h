// SPDX-License-Identifier: Apache-2.0
// Attention by blocks of queries and keys (Dao et al., FlashAttention, arXiv:2205.14135): the score matrix is never whole in memory.
#pragma once

#include <cstdint>
#include <span>

#include "dtensor/tensor.h"
#include "local/kernel.h"
#include "local/runs.h"

namespace dtensor::local::cpu {

/// out[b, h, i] = sum_j softmax_j(scale q[b, h, i] . k[b, g, j] + mask[b, h, i, j]) v[b, g, j] with g = kv_heads[h].
/// Floating dtypes, all alike (the mask: bool, true = seen, or floating); sums in f32, or f64 for f64. A row that sees no key gives 0 and logsumexp -inf.
struct AttentionCall {
  Tensor query;       ///< [b, h, t, d]
  Tensor key, value;  ///< [b, hkv, s, d], [b, hkv, s, e]
  Tensor mask;        ///< broadcast to [b, h, t, s]; empty: none
  double scale = 1;
  bool causal = false;
  std::int64_t offset = 0;                 ///< causal: the query of number n sees keys 0 .. n + offset
  GlobalRuns rows;                         ///< numbers of the query rows, t
  std::span<const std::int64_t> kv_heads;  ///< of each query head, h
  GlobalRuns columns = {};                 ///< numbers of the keys, ascending; empty: 0 .. s - 1
  bool whole_rows = false;                 ///< backward: no row sees keys that are elsewhere
  Tensor out = {}, logsumexp = {};         ///< forward: what other keys gave for the same queries, in the type of the sums, row-major; empty: nothing
};
inline Side side_of(const AttentionCall& call) noexcept { return local::side_of(call.query); }
/// out [b, h, t, e] in the operands' type or that of the sums, logsumexp [b, h, t] in the type of the sums; both row-major. With `out` and `logsumexp` in the
/// call the result is over those keys and these together.
void attention(const AttentionCall& call, const Tensor& out, const Tensor& logsumexp);

struct AttentionGradients {
  Tensor query, key, value;   ///< row-major, shapes of the operands, their type or that of the sums
  bool add_to_query = false;  ///< the query's gradient, in the type of the sums, is added to
};
/// Gradients of sum(grad * out); key and value get the sum over the query heads that are here.
void attention_backward(const AttentionCall& call, const Tensor& grad, const Tensor& out, const Tensor& logsumexp,
                        const AttentionGradients& gradients);
/// Blocks of scores that attention() computes per head for call.rows, columns, causal, offset and the shape of the key: a measure of work.
std::int64_t attention_blocks(const AttentionCall& call);

}  // namespace dtensor::local::cpu
