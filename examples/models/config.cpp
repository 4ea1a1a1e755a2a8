// SPDX-License-Identifier: Apache-2.0
#include "models/config.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "dtensor/error.h"

namespace models {
namespace {

using Json = nlohmann::json;

Json read(const std::string& file) {
  std::ifstream in(file);
  if (!in) throw dtensor::InvalidArgument("config: cannot read " + file + "; give a folder with config.json");
  const Json json = Json::parse(in, nullptr, false);
  if (!json.is_object()) throw dtensor::InvalidArgument("config: " + file + " is not a JSON object");
  return json;
}

template <class T>
T field(const Json& json, const std::string& file, const char* name) {
  if (!json.contains(name) || json[name].is_null()) throw dtensor::InvalidArgument("config: " + file + " lacks \"" + name + "\"");
  return json[name].get<T>();
}
template <class T>
T field_or(const Json& json, const char* name, T fallback) {
  return json.contains(name) && !json[name].is_null() ? json[name].get<T>() : fallback;
}

}  // namespace

std::string model_type(const std::string& file) { return field<std::string>(read(file), file, "model_type"); }

LlamaConfig read_llama_config(const std::string& file) {
  const Json json = read(file);
  LlamaConfig c;
  c.vocab = field<std::int64_t>(json, file, "vocab_size");
  c.hidden = field<std::int64_t>(json, file, "hidden_size");
  c.layers = field<std::int64_t>(json, file, "num_hidden_layers");
  c.heads = field<std::int64_t>(json, file, "num_attention_heads");
  c.kv_heads = field_or(json, "num_key_value_heads", c.heads);
  c.head_dim = field_or(json, "head_dim", c.hidden / c.heads);
  c.intermediate = field<std::int64_t>(json, file, "intermediate_size");
  c.norm_eps = field_or(json, "rms_norm_eps", 1e-6);
  c.rope_theta = field_or(json, "rope_theta", 10000.0);
  if (json.contains("rope_parameters") && json["rope_parameters"].is_object())
    c.rope_theta = field_or(json["rope_parameters"], "rope_theta", c.rope_theta);
  c.tied = field_or(json, "tie_word_embeddings", false);
  c.attention_bias = field_or(json, "attention_bias", false);
  c.mlp_bias = field_or(json, "mlp_bias", false);
  return c;
}

Gpt2Config read_gpt2_config(const std::string& file) {
  const Json json = read(file);
  Gpt2Config c;
  c.vocab = field<std::int64_t>(json, file, "vocab_size");
  c.hidden = field<std::int64_t>(json, file, "n_embd");
  c.layers = field<std::int64_t>(json, file, "n_layer");
  c.heads = field<std::int64_t>(json, file, "n_head");
  c.positions = field<std::int64_t>(json, file, "n_positions");
  c.intermediate = field_or(json, "n_inner", 4 * c.hidden);
  c.norm_eps = field_or(json, "layer_norm_epsilon", 1e-5);
  c.tied = field_or(json, "tie_word_embeddings", true);
  return c;
}

}  // namespace models
