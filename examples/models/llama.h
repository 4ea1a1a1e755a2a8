// SPDX-License-Identifier: Apache-2.0
// Llama (Touvron et al. 2023) with Hugging Face's parameter names.
#pragma once

#include "models/causal_lm.h"
#include "models/config.h"

namespace models {

struct LlamaAttention : dtensor::nn::Module<LlamaAttention> {
  LlamaAttention(const LlamaConfig& config, const dtensor::DeviceMesh& mesh);
  void fields(dtensor::nn::Fields& f) override { f("q_proj", q)("k_proj", k)("v_proj", v)("o_proj", o); }
  dtensor::DTensor forward(const dtensor::DTensor& x, const dtensor::RotaryTables& tables, KvCache::Layer* cache, std::int64_t offset);
  LlamaConfig config;
  dtensor::nn::Linear q, k, v, o;
};

struct LlamaMlp : dtensor::nn::Module<LlamaMlp> {
  LlamaMlp(const LlamaConfig& config, const dtensor::DeviceMesh& mesh);
  void fields(dtensor::nn::Fields& f) override { f("gate_proj", gate)("up_proj", up)("down_proj", down); }
  dtensor::DTensor forward(const dtensor::DTensor& x);
  dtensor::nn::Linear gate, up, down;
};

struct LlamaBlock : dtensor::nn::Module<LlamaBlock> {
  LlamaBlock(const LlamaConfig& config, const dtensor::DeviceMesh& mesh);
  void fields(dtensor::nn::Fields& f) override { f("input_layernorm", norm1)("self_attn", attention)("post_attention_layernorm", norm2)("mlp", mlp); }
  dtensor::DTensor forward(const dtensor::DTensor& x, const dtensor::RotaryTables& tables, KvCache::Layer* cache, std::int64_t offset);
  dtensor::nn::RMSNorm norm1, norm2;
  LlamaAttention attention;
  LlamaMlp mlp;
};

class Llama final : public CausalLm {
 public:
  Llama(const LlamaConfig& config, const dtensor::DeviceMesh& mesh);
  void fields(dtensor::nn::Fields& f) override;
  dtensor::DTensor forward(const dtensor::DTensor& tokens, KvCache* cache = nullptr) override;
  void shard(const ShardOptions& options) override;
  std::int64_t vocab() const override { return config_.vocab; }

 private:
  LlamaConfig config_;
  dtensor::DeviceMesh mesh_;
  dtensor::nn::Embedding embed_;
  dtensor::nn::ModuleList<LlamaBlock> layers_;
  dtensor::nn::RMSNorm norm_;
  dtensor::nn::Linear head_;
};

}  // namespace models
