// SPDX-License-Identifier: Apache-2.0
// Fully sharded data parallelism: parameters, gradients and optimiser state are split over the data-parallel axis; each unit is gathered just
// before it is used and its gradients are reduce-scattered. The numbers are those of plain data parallelism, the memory is not.
#include <dtensor/dtensor.h>

#include <cmath>
using namespace dtensor;

namespace {

constexpr std::int64_t kWidth = 256, kLayers = 6;

struct Layer : nn::Module<Layer> {
  nn::Linear linear;
  explicit Layer(const DeviceMesh& mesh) : linear(kWidth, kWidth, mesh, {.bias = true}) {}
  void fields(nn::Fields& f) override { f("linear", linear); }
  DTensor forward(const DTensor& x) { return x + tanh(linear(x)); }
};
struct Stack : nn::Module<Stack> {
  nn::ModuleList<Layer> layers;
  explicit Stack(const DeviceMesh& mesh) {
    for (int i = 0; i < kLayers; ++i) layers.emplace_back(mesh);
  }
  void fields(nn::Fields& f) override { f("layers", layers); }
  DTensor forward(const DTensor& x) {
    DTensor h = x;
    for (std::size_t i = 0; i < layers.size(); ++i) h = layers[i](h);
    return h;
  }
};

struct Outcome {
  std::vector<double> losses;
  std::int64_t kept = 0, peak = 0;  // bytes on this rank: between steps, and at most
  std::int64_t reduce_scatters = 0;
};

Outcome train(const World& world, const DeviceMesh& mesh, bool sharded) {
  manual_seed(3);
  Stack model(mesh);
  if (sharded) {
    for (std::size_t i = 0; i < model.layers.size(); ++i) parallel::fully_shard(model.layers[i], "dp");  // inner units first
    parallel::fully_shard(model, "dp");
  }
  model.materialize();
  optim::AdamW optimizer(model.named_parameters(), {.lr = 1e-3});
  Outcome outcome;
  const CommCounter counter;
  for (int step = 0; step < 4; ++step) {
    const DTensor x = randn({16, kWidth}, mesh, {Shard(0)});  // one global batch, each rank has its rows
    const DTensor loss = mean(square(model(x) - 2 * x));      // the mean over the global batch
    loss.backward();
    optim::clip_grad_norm_(model.parameters(), 1.0);
    optimizer.step();
    optimizer.zero_grad();
    outcome.losses.push_back(loss.item());
    if (step == 1) reset_peak_memory(world.device());
  }
  const MemoryStats memory = memory_stats(world.device());
  outcome.kept = memory.current;
  outcome.peak = memory.peak;
  outcome.reduce_scatters = counter.launches("reduce_scatter");
  return outcome;
}

int program(World& world) {
  const DeviceMesh mesh = world.mesh({{"dp", world.size()}});
  const Outcome plain = train(world, mesh, false), sharded = train(world, mesh, true);
  double worst = 0;
  for (std::size_t i = 0; i < plain.losses.size(); ++i) worst = std::max(worst, std::abs(plain.losses[i] - sharded.losses[i]));
  world.print({"losses differ by at most ", worst});
  world.print({"bytes kept per rank: data parallel ", plain.kept, ", sharded ", sharded.kept, "; peak ", plain.peak, " and ", sharded.peak});
  const bool falls = sharded.kept < plain.kept * 4 / 10 && sharded.peak < plain.peak * 7 / 10;
  return !world.any(!(worst < 1e-5 && falls && sharded.reduce_scatters > 0)) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, program, {.ranks = 4}); }
