// SPDX-License-Identifier: Apache-2.0
#include "models/llama.h"

namespace models {

using namespace dtensor;

LlamaAttention::LlamaAttention(const LlamaConfig& c, const DeviceMesh& mesh)
    : config(c),
      q(c.hidden, c.heads * c.head_dim, mesh, {.bias = c.attention_bias, .dtype = c.dtype}),
      k(c.hidden, c.kv_heads * c.head_dim, mesh, {.bias = c.attention_bias, .dtype = c.dtype}),
      v(c.hidden, c.kv_heads * c.head_dim, mesh, {.bias = c.attention_bias, .dtype = c.dtype}),
      o(c.heads * c.head_dim, c.hidden, mesh, {.bias = c.attention_bias, .dtype = c.dtype}) {}

DTensor LlamaAttention::forward(const DTensor& x, const RotaryTables& tables, KvCache::Layer* cache, std::int64_t offset) {
  const auto split = [](const DTensor& t, std::int64_t heads) { return transpose(unflatten(t, -1, {heads, -1}), 1, 2); };
  const DTensor query = rotary(split(q(x), config.heads), tables.cos, tables.sin);
  DTensor key = rotary(split(k(x), config.kv_heads), tables.cos, tables.sin);
  DTensor value = split(v(x), config.kv_heads);
  if (cache != nullptr) {
    if (cache->key) {
      key = cat({cache->key, key}, 2);
      value = cat({cache->value, value}, 2);
    }
    cache->key = key;
    cache->value = value;
  }
  const DTensor a =
      scaled_dot_product_attention(query, key, value, {.is_causal = true, .enable_gqa = config.heads != config.kv_heads, .causal_offset = offset});
  return o(flatten(transpose(a, 1, 2), 2));
}

LlamaMlp::LlamaMlp(const LlamaConfig& c, const DeviceMesh& mesh)
    : gate(c.hidden, c.intermediate, mesh, {.bias = c.mlp_bias, .dtype = c.dtype}),
      up(c.hidden, c.intermediate, mesh, {.bias = c.mlp_bias, .dtype = c.dtype}),
      down(c.intermediate, c.hidden, mesh, {.bias = c.mlp_bias, .dtype = c.dtype}) {}

DTensor LlamaMlp::forward(const DTensor& x) { return down(swiglu(gate(x), up(x))); }

LlamaBlock::LlamaBlock(const LlamaConfig& c, const DeviceMesh& mesh)
    : norm1(c.hidden, mesh, {.eps = c.norm_eps, .dtype = c.dtype}),
      norm2(c.hidden, mesh, {.eps = c.norm_eps, .dtype = c.dtype}),
      attention(c, mesh),
      mlp(c, mesh) {}

DTensor LlamaBlock::forward(const DTensor& x, const RotaryTables& tables, KvCache::Layer* cache, std::int64_t offset) {
  const DTensor h = x + attention(norm1(x), tables, cache, offset);
  return h + mlp(norm2(h));
}

Llama::Llama(const LlamaConfig& config, const DeviceMesh& mesh)
    : config_(config),
      mesh_(mesh),
      embed_(config.vocab, config.hidden, mesh, {.dtype = config.dtype}),
      norm_(config.hidden, mesh, {.eps = config.norm_eps, .dtype = config.dtype}),
      head_(config.hidden, config.vocab, mesh, {.dtype = config.dtype}) {
  embed_.weight.set_init(nn::Init::normal(0, 0.02));
  for (std::int64_t i = 0; i < config.layers; ++i) layers_.emplace_back(config, mesh);
  if (config.tied) head_.weight = embed_.weight;
}

void Llama::fields(nn::Fields& f) { f("model.embed_tokens", embed_)("model.layers", layers_)("model.norm", norm_)("lm_head", head_); }

DTensor Llama::forward(const DTensor& tokens, KvCache* cache) {
  const std::int64_t offset = cache != nullptr ? cache->positions : 0;
  DTensor x = embed_(tokens);
  const RotaryTables tables = rotary_tables(
      {.length = tokens.size(1), .head_dim = config_.head_dim, .theta = config_.rope_theta, .offset = offset, .dtype = x.dtype()}, mesh_);
  if (cache != nullptr) cache->layers.resize(layers_.size());
  for (std::size_t i = 0; i < layers_.size(); ++i) x = layers_[i](x, tables, cache != nullptr ? &cache->layers[i] : nullptr, offset);
  if (cache != nullptr) cache->positions += tokens.size(1);
  return head_(norm_(x));
}

void Llama::shard(const ShardOptions& options) {
  using namespace parallel;
  if (has_axis(mesh_, options.tp_axis)) {
    const bool sp = options.sequence_parallel;
    const StyleOptions to_sequence = sp ? StyleOptions{.output = Shard(1)} : StyleOptions{};
    std::vector<PlanEntry> plan{
        {"model.embed_tokens", rowwise(to_sequence)}, {"*.[qkv]_proj", colwise()},          {"*.gate_proj", colwise()}, {"*.up_proj", colwise()},
        {"*.o_proj", rowwise(to_sequence)},           {"*.down_proj", rowwise(to_sequence)}};
    if (sp) {
      plan.push_back({"*layernorm", sequence_parallel({.output = Replicate()})});
      plan.push_back({"model.norm", sequence_parallel({.output = Replicate()})});
    }
    parallelize_module(*this, options.tp_axis, plan);
    // Tied, the head's weight is the embedding's: rows of the vocabulary, which is colwise for the head.
    if (!config_.tied) parallelize_module(*this, options.tp_axis, {{"lm_head", colwise()}});
  }
  if (has_axis(mesh_, options.dp_axis)) {
    for (std::size_t i = 0; i < layers_.size(); ++i) fully_shard(layers_[i], options.dp_axis, options.fsdp);
    FullyShardOptions root = options.fsdp;
    root.reshard_after_forward = false;
    fully_shard(*this, options.dp_axis, root);
  }
}

}  // namespace models
