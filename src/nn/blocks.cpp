// SPDX-License-Identifier: Apache-2.0
#include "dtensor/nn/blocks.h"

#include "base/error_text.h"
#include "dtensor/ops/attention.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/views.h"

namespace dtensor::nn {
namespace {

std::int64_t head_dim_of(std::int64_t features, std::int64_t heads, const AttentionBlockOptions& options) {
  const std::int64_t kv = options.kv_heads == 0 ? heads : options.kv_heads;
  if (heads < 1 || kv < 1 || heads % kv != 0) base::fail<InvalidArgument>("attention: {} kv heads do not divide {} heads; give a divisor", kv, heads);
  if (options.head_dim == 0 && features % heads != 0)
    base::fail<InvalidArgument>("attention: {} heads do not divide {} features; give head_dim", heads, features);
  return options.head_dim == 0 ? features / heads : options.head_dim;
}

}  // namespace

Attention::Attention(std::int64_t features, std::int64_t heads, const DeviceMesh& mesh, const AttentionBlockOptions& options)
    : q(features, heads * head_dim_of(features, heads, options), mesh, {.bias = options.bias}),
      k(features, (options.kv_heads == 0 ? heads : options.kv_heads) * head_dim_of(features, heads, options), mesh, {.bias = options.bias}),
      v(features, (options.kv_heads == 0 ? heads : options.kv_heads) * head_dim_of(features, heads, options), mesh, {.bias = options.bias}),
      o(heads * head_dim_of(features, heads, options), features, mesh, {.bias = options.bias}),
      heads_(heads),
      kv_heads_(options.kv_heads == 0 ? heads : options.kv_heads),
      is_causal_(options.is_causal) {}

DTensor Attention::attend(const DTensor& x, const RotaryTables* tables) {
  const auto split = [](const DTensor& t, std::int64_t heads) { return transpose(unflatten(t, -1, {heads, -1}), 1, 2); };
  const auto turned = [&](const DTensor& t) { return tables == nullptr ? t : rotary(t, tables->cos, tables->sin); };
  const DTensor query = turned(split(q(x), heads_)), key = turned(split(k(x), kv_heads_));
  const DTensor a = scaled_dot_product_attention(query, key, split(v(x), kv_heads_), {.is_causal = is_causal_, .enable_gqa = heads_ != kv_heads_});
  return o(flatten(transpose(a, 1, 2), 2));
}

DTensor Attention::forward(const DTensor& x) { return attend(x, nullptr); }
DTensor Attention::forward(const DTensor& x, const RotaryTables& tables) { return attend(x, &tables); }

Mlp::Mlp(std::int64_t features, std::int64_t hidden, const DeviceMesh& mesh, const LinearOptions& options)
    : gate(features, hidden, mesh, options), up(features, hidden, mesh, options), down(hidden, features, mesh, options) {}

DTensor Mlp::forward(const DTensor& x) { return down(swiglu(gate(x), up(x))); }

}  // namespace dtensor::nn
