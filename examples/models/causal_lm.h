// SPDX-License-Identifier: Apache-2.0
// What the two example models share: tokens in, logits out, a cache for sampling, styles and units to shard by.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

namespace models {

/// Keys and values of the positions seen so far, per layer; sharded as the model computes them.
struct KvCache {
  struct Layer {
    dtensor::DTensor key, value;  ///< [b, kv heads, positions, head size]
  };
  std::vector<Layer> layers;
  std::int64_t positions = 0;
};

struct ShardOptions {
  std::string tp_axis = "tp", dp_axis = "dp";
  bool sequence_parallel = false;
  dtensor::parallel::FullyShardOptions fsdp = {};
};

/// A decoder-only language model.
class CausalLm : public dtensor::nn::Module<CausalLm> {
 public:
  /// tokens i64 [b, t] -> logits [b, t, vocab].
  virtual dtensor::DTensor forward(const dtensor::DTensor& tokens, KvCache* cache = nullptr) = 0;
  /// Tensor parallelism over tp_axis, then FSDP over dp_axis; an axis that the mesh lacks is left out.
  virtual void shard(const ShardOptions& options) = 0;
  virtual std::int64_t vocab() const = 0;
};

/// From Hugging Face's config.json (model_type llama or gpt2).
std::unique_ptr<CausalLm> make_model(const std::string& config_file, const dtensor::DeviceMesh& mesh);
/// Mean cross-entropy of logits [b, t, v] against targets i64 [b, t].
dtensor::DTensor next_token_loss(const dtensor::DTensor& logits, const dtensor::DTensor& targets);
/// Continues `prompt` (replicated i64 [b, t]) by `count` tokens: argmax when temperature is 0, else by chance. The same on every mesh.
std::vector<std::vector<std::int64_t>> generate(CausalLm& model, const std::vector<std::vector<std::int64_t>>& prompt, int count, double temperature,
                                                std::uint64_t seed, const dtensor::DeviceMesh& mesh);
bool has_axis(const dtensor::DeviceMesh& mesh, const std::string& name);

}  // namespace models
