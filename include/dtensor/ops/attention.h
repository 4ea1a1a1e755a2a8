// SPDX-License-Identifier: Apache-2.0
// Attention.
#pragma once

#include <optional>

#include "dtensor/distributed_tensor.h"

namespace dtensor {

struct AttentionOptions {
  DTensor attn_mask = {};            ///< broadcast to [b, h, t, s]: bool (true = seen) or floating (added to the scores)
  double dropout_p = 0;              ///< of the probabilities
  bool is_causal = false;            ///< query i sees keys 0 .. i + causal_offset (not together with attn_mask)
  std::optional<double> scale = {};  ///< default 1 / sqrt(d)
  bool enable_gqa = false;           ///< h may be a multiple of hkv: query head i reads key and value head i / (h / hkv)
  std::int64_t causal_offset = 0;    ///< number of the first query among the keys, for decoding with a cache; 0 is PyTorch's top-left alignment
};
/// softmax(scale query key^T + mask) value: query [b, h, t, d], key [b, hkv, s, d], value [b, hkv, s, e] -> [b, h, t, e].
/// Without the batch, or without batch and heads, they may have three or two dims; several batch dims count as one.
/// Batch dims broadcast, and heads without enable_gqa. The score matrix is never whole in memory, but for dropout_p other than 0
/// and for a mask that asks for a gradient. b, h, t and s may be split: with s split blocks of keys visit the ranks and none holds all (docs/rules.md); with h
/// split each rank has the key and value heads that its query heads read. A query that sees no key gives 0.
/// @throws InvalidArgument when shapes or dtypes do not fit.
DTENSOR_EXPORT DTensor scaled_dot_product_attention(const DTensor& query, const DTensor& key, const DTensor& value,
                                                    const AttentionOptions& options = {});

}  // namespace dtensor
