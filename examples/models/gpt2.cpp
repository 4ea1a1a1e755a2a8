// SPDX-License-Identifier: Apache-2.0
#include "models/gpt2.h"

namespace models {

using namespace dtensor;

Conv1d::Conv1d(std::int64_t in, std::int64_t out, const DeviceMesh& mesh, bool with_gelu)
    : weight({in, out}, mesh, nn::Init::normal(0, 0.02)), bias({out}, mesh), gelu(with_gelu) {}

// The product may be Partial; the bias joins it once.
DTensor Conv1d::forward(const DTensor& x) {
  if (gelu) return linear_gelu(x, transpose(weight, 0, 1), bias);
  return matmul(x, weight) + bias;
}

Gpt2Block::Gpt2Block(const Gpt2Config& c, const DeviceMesh& mesh)
    : heads(c.heads),
      norm1(c.hidden, mesh, {.eps = c.norm_eps}),
      norm2(c.hidden, mesh, {.eps = c.norm_eps}),
      attention_in(c.hidden, 3 * c.hidden, mesh),
      attention_out(c.hidden, c.hidden, mesh),
      up(c.hidden, c.intermediate, mesh, true),
      down(c.intermediate, c.hidden, mesh) {}

DTensor Gpt2Block::forward(const DTensor& x, KvCache::Layer* cache, std::int64_t offset) {
  // [b, t, 3 d] -> [b, t, 3, h, d/h]: a weight in StridedShard(1, 3) keeps heads of q, k and v together.
  const DTensor qkv = unflatten(attention_in(norm1(x)), -1, {3, heads, -1});
  const auto part = [&](std::int64_t i) { return transpose(select(qkv, 2, i), 1, 2); };
  DTensor key = part(1), value = part(2);
  if (cache != nullptr) {
    if (cache->key) {
      key = cat({cache->key, key}, 2);
      value = cat({cache->value, value}, 2);
    }
    cache->key = key;
    cache->value = value;
  }
  const DTensor a = scaled_dot_product_attention(part(0), key, value, {.is_causal = true, .causal_offset = offset});
  const DTensor h = x + attention_out(flatten(transpose(a, 1, 2), 2));
  return h + down(up(norm2(h)));
}

Gpt2::Gpt2(const Gpt2Config& config, const DeviceMesh& mesh)
    : config_(config),
      mesh_(mesh),
      tokens_(config.vocab, config.hidden, mesh),
      positions_(config.positions, config.hidden, mesh),
      norm_(config.hidden, mesh, {.eps = config.norm_eps}),
      head_(config.hidden, config.vocab, mesh) {
  tokens_.weight.set_init(nn::Init::normal(0, 0.02));
  positions_.weight.set_init(nn::Init::normal(0, 0.02));
  for (std::int64_t i = 0; i < config.layers; ++i) blocks_.emplace_back(config, mesh);
  if (config.tied) head_.weight = tokens_.weight;
}

void Gpt2::fields(nn::Fields& f) {
  f("transformer.wte", tokens_)("transformer.wpe", positions_)("transformer.h", blocks_)("transformer.ln_f", norm_)("lm_head", head_);
}

DTensor Gpt2::forward(const DTensor& tokens, KvCache* cache) {
  const std::int64_t offset = cache != nullptr ? cache->positions : 0;
  const DTensor position = arange(offset, offset + tokens.size(1), 1, mesh_);
  DTensor x = tokens_(tokens) + positions_(position);
  if (cache != nullptr) cache->layers.resize(blocks_.size());
  for (std::size_t i = 0; i < blocks_.size(); ++i) x = blocks_[i](x, cache != nullptr ? &cache->layers[i] : nullptr, offset);
  if (cache != nullptr) cache->positions += tokens.size(1);
  return head_(norm_(x));
}

void Gpt2::shard(const ShardOptions& options) {
  using namespace parallel;
  if (has_axis(mesh_, options.tp_axis)) {
    const std::string& tp = options.tp_axis;
    const Placement between = options.sequence_parallel ? Placement(Shard(1)) : Placement(Replicate());
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      Gpt2Block& b = blocks_[i];
      place(b.attention_in.weight, tp, StridedShard(1, 3));
      place(b.attention_in.bias, tp, StridedShard(0, 3));
      place(b.attention_out.weight, tp, Shard(0));
      place(b.up.weight, tp, Shard(1));
      place(b.up.bias, tp, Shard(0));
      place(b.down.weight, tp, Shard(0));
    }
    parallelize_module(*this, tp,
                       {{"transformer.wte", rowwise({.output = between})},
                        {"transformer.wpe", prepare({.input = Replicate()})},
                        {"*.c_attn", prepare({.input = Replicate()})},
                        {"*.c_proj", prepare({.output = between})},
                        {"*.c_fc", prepare({.input = Replicate()})},
                        {"transformer.ln_f", prepare({.output = Replicate()})}});
    if (!config_.tied) parallelize_module(*this, tp, {{"lm_head", colwise()}});
  }
  if (has_axis(mesh_, options.dp_axis)) {
    for (std::size_t i = 0; i < blocks_.size(); ++i) fully_shard(blocks_[i], options.dp_axis, options.fsdp);
    FullyShardOptions root = options.fsdp;
    root.reshard_after_forward = false;
    fully_shard(*this, options.dp_axis, root);
  }
}

}  // namespace models
