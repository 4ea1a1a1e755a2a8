// SPDX-License-Identifier: Apache-2.0
// Parts of transformers that no other family has: gelu with its bias, alibi, bags of embeddings, products per expert. Collective over the mesh.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"
#include "dtensor/ops/factories.h"

namespace dtensor {

/// gelu(input + bias), the sum of which is not kept for the gradient; bias [n] for input [..., n]. approximate: none or tanh. Floating, one dtype.
DTENSOR_EXPORT DTensor bias_gelu(const DTensor& input, const DTensor& bias, std::string_view approximate = "none");

/// Attention bias [heads, queries, keys]: slope of the head times (key - query), queries being the last of the keys. Slopes are 2^(-8 (h + 1) / H) where the
/// number of heads H is a power of two; else those of the power below, then every other one of the power above (Press, Smith and Lewis 2022).
DTENSOR_EXPORT DTensor alibi_bias(std::int64_t num_heads, std::int64_t query_length, std::int64_t key_length, const DeviceMesh& mesh,
                                  const Placements& placements = {}, const TensorOptions& options = {});

struct EmbeddingBagOptions {
  std::string_view mode = "mean";                ///< sum, mean or max over each bag
  bool include_last_offset = false;              ///< offsets end with the number of indices
  std::optional<std::int64_t> padding_idx = {};  ///< indices that are in no bag
};
/// Rows of `weight` [rows, width] at `input` [bags, size], reduced per bag: [bags, width]. The rows of all bags never exist together, but for max.
/// per_sample_weights [bags, size] scale the rows of a sum. A split vocabulary and split bags stay where they are.
DTENSOR_EXPORT DTensor embedding_bag(const DTensor& input, const DTensor& weight, const EmbeddingBagOptions& options = {},
                                     const DTensor& per_sample_weights = {});
/// Bags of any size: `input` [n] holds them one after the other, bag b begins at offsets[b] (i64 or i32, rising from 0) and ends where the next one begins.
/// An empty bag gives 0. per_sample_weights [n].
DTENSOR_EXPORT DTensor embedding_bag(const DTensor& input, const DTensor& weight, const DTensor& offsets, const EmbeddingBagOptions& options = {},
                                     const DTensor& per_sample_weights = {});

/// Rows of input [tokens, k] in groups, one product per group: rows offs[e - 1] .. offs[e] - 1 times weight[e], weight [groups, k, n], offs [groups] i32 or
/// i64, rising. Rows behind the last group give zeros. Tokens and groups are gathered first; k and n may be split.
DTENSOR_EXPORT DTensor grouped_mm(const DTensor& input, const DTensor& weight, const DTensor& offs);

/// Tokens in the order of their experts, for grouped_mm.
struct Dispatched {
  DTensor tokens;  ///< [tokens * k, width]
  DTensor offs;    ///< [num_experts] i64: where each expert's tokens end
  DTensor order;   ///< [tokens * k] i64: token * k + choice of each row
};
/// Token t goes to the experts expert[t, :]: input [tokens, width], expert [tokens, k] in [0, num_experts). Rows of one expert keep the order of the tokens.
DTENSOR_EXPORT Dispatched moe_dispatch(const DTensor& input, const DTensor& expert, std::int64_t num_experts);
/// The sum over the choices of each token of weights [tokens, k] times its row of `rows` [tokens * k, width]: [tokens, width].
DTENSOR_EXPORT DTensor moe_combine(const DTensor& rows, const DTensor& order, const DTensor& weights);

}  // namespace dtensor
