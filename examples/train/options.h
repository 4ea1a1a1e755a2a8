// SPDX-License-Identifier: Apache-2.0
// What the user of train_llama may say.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "models/config.h"

namespace train {

struct Options {
  std::string mesh;  ///< "dp=2,tp=2" or "2x2"; empty: all ranks on dp
  models::LlamaConfig model = {.vocab = 256, .hidden = 128, .layers = 4, .heads = 4, .kv_heads = 2, .head_dim = 32, .intermediate = 352};
  std::int64_t sequence = 128, batch = 16, steps = 300, warmup = 20, save_every = 0, sample = 0, validation_batches = 4;
  double lr = 4e-3, temperature = 0.6;
  std::uint64_t seed = 1;
  std::string data, save, resume, svg, prompt = "#include ", precision = "f32";
  bool eval_only = false, sequence_parallel = false;
};

struct Parsed {
  Options options;
  bool stop = false;  ///< help or an error was asked for: print `text`, return `code`
  int code = 0;
  std::string text;
};
/// Reads the arguments after the program's name.
Parsed parse(std::span<const std::string> arguments);

struct Axis {
  std::string name;
  int size;
};
/// "dp=2,tp=2" or "2x2" (dp, tp by position). @throws dtensor::InvalidArgument.
std::vector<Axis> parse_mesh(const std::string& text, int ranks);

}  // namespace train
