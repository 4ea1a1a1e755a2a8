// SPDX-License-Identifier: Apache-2.0
// One training step of a byte Llama (2,048 tokens, 4 layers, 256 wide unless told otherwise), f32, AdamW: on one rank, tensor parallel and fully sharded.
// Milliseconds per step, least and median, and what a rank keeps for backward.
// bench/compare_train.py puts PyTorch and JAX beside it.
//   train [one|tp|fsdp] [--threads N] [--steps N] [--hidden N] [--layers N] [--ffn N] [--heads N] [--vocab N] [--length N] [--batch N] [--bf16 1]
//         [--graph 1: on one rank of a device, a recorded step replayed beside the one that is called]
//         [--device cpu|cuda:0]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

#include "models/llama.h"

namespace {

using namespace dtensor;
using Clock = std::chrono::steady_clock;

struct Sizes {
  std::int64_t threads = 0, steps = 12, hidden = 256, layers = 4, ffn = 768, heads = 8, vocab = 256, length = 256, batch = 8, bf16 = 0, graph = 0;
};

void measure_replays(const Sizes& sizes, Device device, const std::function<DTensor()>& step) {
  DTensor loss;
  const auto begin = Clock::now();
  CudaGraph graph = CudaGraph::record(device, [&] { loss = step(); });
  const double recording = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  std::vector<double> times;
  for (std::int64_t k = 0; k < sizes.steps; ++k) {
    const auto start = Clock::now();
    graph.replay();
    static_cast<void>(loss.item());
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  std::printf("graph ranks 1 nodes %lld  min %.1f median %.1f ms  recorded in %.1f ms, %.1f MB of its own  loss %.4f\n",
              static_cast<long long>(graph.nodes()), times.front(), times[times.size() / 2], recording, static_cast<double>(graph.bytes()) / 1e6,
              loss.item());
}

void measure(const std::string& mode, const Sizes& sizes, Device device) {
  const int ranks = mode == "one" ? 1 : 2;
  const int threads = sizes.threads > 0 ? static_cast<int>(sizes.threads) : 2 / ranks;
  run_ranks({.ranks = ranks, .device = device, .threads_per_rank = threads}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{mode == "fsdp" ? "dp" : "tp", ranks}});
    manual_seed(1);
    models::Llama model({.vocab = sizes.vocab,
                         .hidden = sizes.hidden,
                         .layers = sizes.layers,
                         .heads = sizes.heads,
                         .kv_heads = sizes.heads,
                         .head_dim = sizes.hidden / sizes.heads,
                         .intermediate = sizes.ffn,
                         .dtype = sizes.bf16 != 0 ? Dtype::bf16 : Dtype::f32},
                        mesh);
    model.shard({});
    model.materialize();
    optim::AdamW optimizer(model.named_parameters(), {.lr = 3e-4, .capturable = sizes.graph != 0});
    const DTensor tokens = randint(0, sizes.vocab, {sizes.batch, sizes.length + 1}, mesh);
    const Placements split = mode == "fsdp" ? Placements{{"dp", Shard(0)}} : Placements{};
    const DTensor inputs = contiguous(slice(tokens, 1, 0, sizes.length)).redistribute(split),
                  targets = contiguous(slice(tokens, 1, 1, sizes.length + 1)).redistribute(split);
    std::vector<double> times;
    std::int64_t kept = 0;
    double loss_value = 0;
    for (std::int64_t step = 0; step < sizes.steps; ++step) {
      world.barrier();
      const std::int64_t before = memory_stats(device).current;
      const auto begin = Clock::now();
      const DTensor loss = models::next_token_loss(model(inputs), targets);
      kept = memory_stats(device).current - before;
      loss.backward();
      optimizer.step();
      optimizer.zero_grad();
      loss_value = loss.item();  // a device has done the step then
      world.barrier();
      times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
    }
    if (sizes.graph != 0 && ranks == 1 && device.kind == DeviceKind::cuda)
      measure_replays(sizes, device, [&] {
        const DTensor loss = models::next_token_loss(model(inputs), targets);
        loss.backward();
        optimizer.step();
        optimizer.zero_grad();
        return loss.detach();
      });
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
                                                     {"--batch", &sizes.batch},     {"--heads", &sizes.heads}, {"--vocab", &sizes.vocab},
                                                     {"--bf16", &sizes.bf16},       {"--graph", &sizes.graph}};
  Device device;
  for (int i = 1; i < argc; ++i) {
    if (const auto option = options.find(argv[i]); option != options.end() && i + 1 < argc) *option->second = std::atoll(argv[++i]);
    else if (std::string(argv[i]) == "--device" && i + 1 < argc)
      device = std::string(argv[++i]) == "cpu" ? Device::cpu() : Device::cuda(std::atoi(argv[i] + 5));
    else modes.emplace_back(argv[i]);
  }
  if (modes.empty()) modes = {"one", "tp", "fsdp"};
  for (const std::string& mode : modes) measure(mode, sizes, device);
}
