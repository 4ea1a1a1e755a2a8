// SPDX-License-Identifier: Apache-2.0
// One training step of a byte Llama (2,048 tokens, 4 layers, 256 wide unless told otherwise), f32, AdamW: on one rank, tensor parallel and fully sharded.
// Milliseconds per step, least and median, and what a rank keeps for backward.
// bench/compare_train.py puts PyTorch and JAX beside it.
//   train [one|tp|fsdp] [--threads N] [--steps N] [--hidden N] [--layers N] [--ffn N] [--length N] [--batch N]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

#include "models/llama.h"

namespace {

using namespace dtensor;
using Clock = std::chrono::steady_clock;

struct Sizes {
  std::int64_t threads = 0, steps = 12, hidden = 256, layers = 4, ffn = 768, length = 256, batch = 8;
};

void measure(const std::string& mode, const Sizes& sizes) {
  const int ranks = mode == "one" ? 1 : 2;
  const int threads = sizes.threads > 0 ? static_cast<int>(sizes.threads) : 2 / ranks;
  run_ranks({.ranks = ranks, .threads_per_rank = threads}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{mode == "fsdp" ? "dp" : "tp", ranks}});
    manual_seed(1);
    models::Llama model(
        {.hidden = sizes.hidden, .layers = sizes.layers, .heads = 8, .kv_heads = 8, .head_dim = sizes.hidden / 8, .intermediate = sizes.ffn}, mesh);
    model.shard({});
    model.materialize();
    optim::AdamW optimizer(model.named_parameters(), {.lr = 3e-4});
    const DTensor tokens = randint(0, 256, {sizes.batch, sizes.length + 1}, mesh);
    const Placements split = mode == "fsdp" ? Placements{{"dp", Shard(0)}} : Placements{};
    const DTensor inputs = contiguous(slice(tokens, 1, 0, sizes.length)).redistribute(split),
                  targets = contiguous(slice(tokens, 1, 1, sizes.length + 1)).redistribute(split);
    std::vector<double> times;
    std::int64_t kept = 0;
    double loss_value = 0;
    for (std::int64_t step = 0; step < sizes.steps; ++step) {
      world.barrier();
      const std::int64_t before = memory_stats().current;
      const auto begin = Clock::now();
      const DTensor loss = models::next_token_loss(model(inputs), targets);
      kept = memory_stats().current - before;
      loss.backward();
      optimizer.step();
      optimizer.zero_grad();
      world.barrier();
      times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
      loss_value = loss.item();
    }
    std::sort(times.begin(), times.end());
    if (world.rank() == 0)
      std::printf("%-5s ranks %d threads %d  min %.1f median %.1f ms  saved for backward %.1f MB  loss %.4f\n", mode.c_str(), ranks, threads,
                  times.front(), times[times.size() / 2], static_cast<double>(kept) / 1e6, loss_value);
  });
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> modes;
  Sizes sizes;
  const std::map<std::string, std::int64_t*> options{{"--threads", &sizes.threads}, {"--steps", &sizes.steps}, {"--hidden", &sizes.hidden},
                                                     {"--layers", &sizes.layers},   {"--ffn", &sizes.ffn},     {"--length", &sizes.length},
                                                     {"--batch", &sizes.batch}};
  for (int i = 1; i < argc; ++i) {
    if (const auto option = options.find(argv[i]); option != options.end() && i + 1 < argc) *option->second = std::atoll(argv[++i]);
    else modes.emplace_back(argv[i]);
  }
  if (modes.empty()) modes = {"one", "tp", "fsdp"};
  for (const std::string& mode : modes) measure(mode, sizes);
}
