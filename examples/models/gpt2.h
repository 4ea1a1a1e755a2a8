// SPDX-License-Identifier: Apache-2.0
// GPT-2 (Radford et al. 2019) with Hugging Face's parameter names.
#pragma once

#include "models/causal_lm.h"
#include "models/config.h"

namespace models {

/// y = x W + b with weight [in, out], or gelu (tanh form) of that.
struct Conv1d : dtensor::nn::Module<Conv1d> {
  Conv1d(std::int64_t in, std::int64_t out, const dtensor::DeviceMesh& mesh, bool gelu = false);
  void fields(dtensor::nn::Fields& f) override { f("weight", weight)("bias", bias); }
  dtensor::DTensor forward(const dtensor::DTensor& x);
  dtensor::nn::Parameter weight, bias;
  bool gelu;
};

struct Gpt2Block : dtensor::nn::Module<Gpt2Block> {
  Gpt2Block(const Gpt2Config& config, const dtensor::DeviceMesh& mesh);
  void fields(dtensor::nn::Fields& f) override {
    f("ln_1", norm1)("attn.c_attn", attention_in)("attn.c_proj", attention_out)("ln_2", norm2)("mlp.c_fc", up)("mlp.c_proj", down);
  }
  dtensor::DTensor forward(const dtensor::DTensor& x, KvCache::Layer* cache, std::int64_t offset);
  std::int64_t heads;
  dtensor::nn::LayerNorm norm1, norm2;
  Conv1d attention_in, attention_out, up, down;
};

class Gpt2 final : public CausalLm {
 public:
  Gpt2(const Gpt2Config& config, const dtensor::DeviceMesh& mesh);
  void fields(dtensor::nn::Fields& f) override;
  dtensor::DTensor forward(const dtensor::DTensor& tokens, KvCache* cache = nullptr) override;
  void shard(const ShardOptions& options) override;
  std::int64_t vocab() const override { return config_.vocab; }

 private:
  Gpt2Config config_;
  dtensor::DeviceMesh mesh_;
  dtensor::nn::Embedding tokens_, positions_;
  dtensor::nn::ModuleList<Gpt2Block> blocks_;
  dtensor::nn::LayerNorm norm_;
  dtensor::nn::Linear head_;
};

}  // namespace models
