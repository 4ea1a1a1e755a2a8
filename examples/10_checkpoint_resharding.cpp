// SPDX-License-Identifier: Apache-2.0
// A checkpoint holds whole tensors, so what one mesh saved any other loads: the placements of the running program decide, not the file.
#include <dtensor/dtensor.h>

#include <array>
#include <span>
using namespace dtensor;

namespace {

struct Model : nn::Module<Model> {
  nn::Embedding embedding;
  nn::Linear up, down;
  explicit Model(const DeviceMesh& mesh) : embedding(50, 30, mesh), up(30, 45, mesh, {.bias = true}), down(45, 30, mesh) {}
  void fields(nn::Fields& f) override { f("embedding", embedding)("up", up)("down", down); }
  DTensor forward(const DTensor& tokens) { return down(relu(up(embedding(tokens)))); }
};

// Names -> handles and addresses; copies nothing.
StateDict everything(Model& model, optim::AdamW& optimizer, std::int64_t& step) {
  StateDict state;
  state.add("model", model).add("optimizer", optimizer).add("rng", default_generator()).add("step", step);
  return state;
}

void shard(Model& model, bool tp, bool dp) {
  if (tp) parallel::parallelize_module(model, "tp", {{"embedding", parallel::rowwise()}, {"up", parallel::colwise()}, {"down", parallel::rowwise()}});
  if (dp) parallel::fully_shard(model, "dp");
}

// Each parameter, and each tensor of the optimiser, whole.
std::vector<DTensor> values(Model& model, optim::AdamW& optimizer) {
  std::vector<DTensor> list;
  for (const nn::Parameter& p : model.parameters()) list.push_back(p.value().detach().full_tensor());
  for (const optim::StateTensor& s : optimizer.state()) list.push_back(s.get().full_tensor());
  return list;
}

bool same(const std::vector<DTensor>& a, const std::vector<DTensor>& b) {
  bool all = a.size() == b.size();
  for (std::size_t i = 0; all && i < a.size(); ++i) all = equal(a[i], b[i]);  // bit for bit
  return all;
}

std::vector<DTensor> train_and_save(World& world, const std::string& folder) {
  const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
  Model model(mesh);
  shard(model, true, true);
  model.materialize();
  optim::AdamW optimizer(model.named_parameters(), {.lr = 1e-2});
  std::int64_t step = 0;
  for (; step < 3; ++step) {
    const DTensor loss = mean(square(model(arange(50, mesh, {{"dp", Shard(0)}}))));
    loss.backward();
    optimizer.step();
    optimizer.zero_grad();
  }
  save_checkpoint(folder, everything(model, optimizer, step));
  return values(model, optimizer);
}

bool load_on(World& world, const std::string& folder, std::array<MeshAxis, 2> axes, const std::vector<DTensor>& saved) {
  const DeviceMesh mesh = world.mesh({axes[0], axes[1]});
  Model model(mesh);
  shard(model, true, axes[0].size > 1);
  optim::AdamW optimizer(model.named_parameters(), {.lr = 1e-2});
  std::int64_t step = 0;
  load_checkpoint(folder, everything(model, optimizer, step));  // parameters come from the file: no materialize()
  const bool right = step == 3 && optimizer.steps() == 3 && same(values(model, optimizer), saved);
  world.print({mesh, ": ", model.up.weight.value(), right ? ", equal" : ", DIFFERENT"});
  return right;
}

int program(World& world) {
  const std::string folder = "example_checkpoint";
  const std::vector<DTensor> saved = train_and_save(world, folder);
  for (const StoredTensor& t : list_checkpoint(folder)) world.print({t.name, " ", t.dtype, t.shape});
  bool right = load_on(world, folder, {{{"dp", 1}, {"tp", 4}}}, saved);
  right = load_on(world, folder, {{{"dp", 4}, {"tp", 1}}}, saved) && right;
  right = load_on(world, folder, {{{"dp", 2}, {"tp", 2}}}, saved) && right;

  // What does not fit is refused before anything has changed.
  DTensor wrong = zeros({3, 3}, world.mesh({{"x", 4}}));
  StateDict other;
  other.add("up.weight", wrong);
  bool refused = false;
  try {
    load_checkpoint(folder, other);
  } catch (const InvalidArgument& e) {
    refused = true;
    world.print({e.what()});
  }
  return right && refused ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, program, {.ranks = 4}); }
