// SPDX-License-Identifier: Apache-2.0
// Tensor parallelism: the model is written for one device; a plan of patterns and styles splits it over an axis of the mesh.
#include <dtensor/dtensor.h>

#include <cmath>
using namespace dtensor;

namespace {

struct Mlp : nn::Module<Mlp> {
  nn::Linear gate, up, down;
  explicit Mlp(const DeviceMesh& mesh) : gate(32, 90, mesh), up(32, 90, mesh), down(90, 32, mesh) {}
  void fields(nn::Fields& f) override { f("gate", gate)("up", up)("down", down); }
  DTensor forward(const DTensor& x) { return down(silu(gate(x)) * up(x)); }
};

// Teaches the model to give back its input; the losses of all steps.
std::vector<double> train(Mlp& model, const DeviceMesh& mesh) {
  manual_seed(7);
  optim::AdamW optimizer(model.named_parameters(), {.lr = 2e-2});
  std::vector<double> losses;
  for (int step = 0; step < 30; ++step) {
    const DTensor x = randn({16, 32}, mesh);
    const DTensor loss = mean(square(model(x) - x));
    loss.backward();
    optimizer.step();
    optimizer.zero_grad();
    losses.push_back(loss.item());
  }
  return losses;
}

int program(World& world) {
  const DeviceMesh mesh = world.mesh({{"tp", world.size()}});
  manual_seed(1);
  Mlp whole(mesh), split(mesh);
  parallel::parallelize_module(split, "tp", {{"gate", parallel::colwise()}, {"up", parallel::colwise()}, {"down", parallel::rowwise()}});
  whole.materialize();  // a parameter's numbers depend on seed, name and global index: both models begin alike
  split.materialize();
  for (const auto& [name, parameter] : split.named_parameters())
    world.print({name, ": ", parameter.value(), ", here ", parameter.value().local().shape()});

  const DTensor x = randn({16, 32}, mesh);
  std::int64_t launches = 0, all_reduces = 0;
  {
    const NoGrad off;
    const CommCounter counter;
    split(x);
    launches = counter.launches();
    all_reduces = counter.launches("all_reduce");
    world.print({"one forward: ", counter});
  }
  const std::vector<double> a = train(whole, mesh), b = train(split, mesh);
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]) / a[i]);
  world.print({"loss ", b.front(), " -> ", b.back(), "; against the whole model at most ", worst, " relative"});
  return launches == 1 && all_reduces == 1 && worst < 1e-4 && b.back() < 0.7 * b.front() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, program, {.ranks = 3}); }
