// SPDX-License-Identifier: Apache-2.0
// What Hugging Face's config.json says of a Llama or a GPT-2.
#pragma once

#include <cstdint>
#include <string>

#include <dtensor/values.h>

namespace models {

struct LlamaConfig {
  std::int64_t vocab = 256, hidden = 256, layers = 4, heads = 8, kv_heads = 2, head_dim = 32, intermediate = 688;
  double norm_eps = 1e-5, rope_theta = 10000;
  bool tied = false;  ///< the output embedding is the input embedding
  bool attention_bias = false, mlp_bias = false;
  dtensor::Dtype dtype = dtensor::Dtype::f32;  ///< of all parameters
};
struct Gpt2Config {
  std::int64_t vocab = 256, hidden = 64, layers = 2, heads = 4, positions = 64, intermediate = 256;
  double norm_eps = 1e-5;
  bool tied = true;
};

/// "llama" or "gpt2". @throws dtensor::InvalidArgument naming file and field.
std::string model_type(const std::string& config_file);
LlamaConfig read_llama_config(const std::string& config_file);
Gpt2Config read_gpt2_config(const std::string& config_file);

}  // namespace models
