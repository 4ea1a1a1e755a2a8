// SPDX-License-Identifier: Apache-2.0
#include "models/causal_lm.h"

#include <algorithm>
#include <cmath>

#include "models/gpt2.h"
#include "models/llama.h"

namespace models {

using namespace dtensor;

bool has_axis(const DeviceMesh& mesh, const std::string& name) {
  return std::find(mesh.names().begin(), mesh.names().end(), name) != mesh.names().end();
}

std::unique_ptr<CausalLm> make_model(const std::string& config_file, const DeviceMesh& mesh) {
  const std::string type = model_type(config_file);
  if (type == "llama") return std::make_unique<Llama>(read_llama_config(config_file), mesh);
  if (type == "gpt2") return std::make_unique<Gpt2>(read_gpt2_config(config_file), mesh);
  throw InvalidArgument("make_model: model_type '" + type + "' is not known; llama and gpt2 are");
}

DTensor next_token_loss(const DTensor& logits, const DTensor& targets) { return cross_entropy(flatten(logits, 0, 1), flatten(targets, 0, 1)); }

namespace {

DTensor as_tokens(const std::vector<std::vector<std::int64_t>>& rows, const DeviceMesh& mesh) {
  std::vector<std::int64_t> flat;
  for (const auto& row : rows) flat.insert(flat.end(), row.begin(), row.end());
  return distribute(Tensor::of(flat, {static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(rows[0].size())}), mesh, {},
                    {.source = Source::every_rank});
}

std::int64_t choose(std::span<const float> logits, double temperature, std::uint64_t& state) {
  const auto best = std::max_element(logits.begin(), logits.end());
  if (temperature <= 0) return best - logits.begin();
  double total = 0;
  std::vector<double> weights;
  for (float l : logits) total += weights.emplace_back(std::exp((static_cast<double>(l) - static_cast<double>(*best)) / temperature));
  // splitmix64: a host-side stream, the same on every rank and mesh.
  state += 0x9e3779b97f4a7c15ull;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  double at = static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53 * total;
  for (std::size_t i = 0; i < weights.size(); ++i)
    if ((at -= weights[i]) < 0) return static_cast<std::int64_t>(i);
  return static_cast<std::int64_t>(weights.size()) - 1;
}

}  // namespace

std::vector<std::vector<std::int64_t>> generate(CausalLm& model, const std::vector<std::vector<std::int64_t>>& prompt, int count, double temperature,
                                                std::uint64_t seed, const DeviceMesh& mesh) {
  const NoGrad off;
  KvCache cache;
  std::vector<std::vector<std::int64_t>> out(prompt.size()), next = prompt;
  for (int step = 0; step < count; ++step) {
    const DTensor logits = model(as_tokens(next, mesh), &cache);
    const DTensor last = select(logits, 1, -1).full_tensor();
    const Tensor values = last.local().to(Device::cpu()).to(Dtype::f32).contiguous();
    const auto vocab = static_cast<std::size_t>(model.vocab());
    for (std::size_t row = 0; row < prompt.size(); ++row) {
      const std::int64_t token = choose(values.values<const float>().subspan(row * vocab, vocab), temperature, seed);
      out[row].push_back(token);
      next[row] = {token};
    }
  }
  return out;
}

}  // namespace models
