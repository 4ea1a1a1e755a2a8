// SPDX-License-Identifier: Apache-2.0
// Loads a model in Hugging Face's form (config.json, model.safetensors) on a mesh of dp x tp and continues a text by its most likely bytes.
// Usage: 11_hf_weights [--ranks N] FOLDER [PROMPT]
#include <dtensor/dtensor.h>

#include <string>

#include "models/causal_lm.h"
using namespace dtensor;

namespace {

using Tokens = std::vector<std::vector<std::int64_t>>;

std::string as_text(const std::vector<std::int64_t>& tokens) {
  std::string text;
  for (const std::int64_t t : tokens) text += t >= 32 && t < 127 ? static_cast<char>(t) : '.';
  return text;
}

Tokens sample(const std::string& folder, const DeviceMesh& mesh, const Tokens& prompt, int count) {
  const auto model = models::make_model(folder + "/config.json", mesh);
  model->shard({});              // tensor parallel over tp, fully sharded over dp: placements only, nothing is allocated yet
  load_weights(*model, folder);  // each rank reads its own bytes
  return models::generate(*model, prompt, count, 0, 0, mesh);
}

int program(World& world) {
  if (world.args().size() < 2) {
    world.print({"usage: 11_hf_weights [--ranks N] FOLDER [PROMPT]"});
    return 2;
  }
  const std::string folder = world.args()[1];
  const std::string prompt = world.args().size() > 2 ? world.args()[2] : "Licensed under the Apache License, Version 2.0";
  const Tokens tokens{std::vector<std::int64_t>(prompt.begin(), prompt.end())};

  const int tp = world.size() % 2 == 0 ? 2 : 1;
  const Tokens sharded = sample(folder, world.mesh({{"dp", -1}, {"tp", tp}}), tokens, 32);
  world.print({prompt, " | ", as_text(sharded[0])});
  // The same on every rank alone.
  const Tokens alone = sample(folder, DeviceMesh::self(), tokens, 32);
  return !world.any(alone != sharded) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, program, {.ranks = 4}); }
