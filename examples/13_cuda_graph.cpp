// SPDX-License-Identifier: Apache-2.0
// A training step recorded once and replayed: the device does the same, the host does nothing of it. On the CPU there is nothing to record.
#include <dtensor/dtensor.h>

#include <cmath>
#include <cstdio>
using namespace dtensor;

namespace {

constexpr int kSteps = 20;

Device best_device() { return cuda_info().devices.empty() ? Device::cpu() : Device::cuda(0); }

// A line through points, fitted by gradient descent. The rate is a tensor: a replay takes what it holds then.
struct Fit {
  DTensor x, y, w, rate, loss;
  explicit Fit(const DeviceMesh& mesh) : x(randn({64, 1}, mesh)), y(x * 3), w(full({1, 1}, 0, mesh).set_requires_grad()), rate(full({}, 0.1, mesh)) {}
  void step() {
    loss = mean(square(matmul(dropout(x, 0.1), w) - y));
    loss.backward();
    const NoGrad off;
    sub_(w, w.grad() * rate);
    w.set_grad(DTensor());
  }
};

int program(World& world) {
  const DeviceMesh mesh = world.mesh({{"dp", world.size()}});
  const bool on_device = world.device().kind == DeviceKind::cuda && world.size() == 1;
  manual_seed(1);
  Fit called(mesh);
  for (int k = 0; k < kSteps; ++k) called.step();
  if (!on_device) {
    world.print(
        {"graphs are recorded on a CUDA device by one rank, or by ranks over NCCL; here every step is called: loss ", called.loss.item(), "\n"});
    return 0;
  }

  manual_seed(1);
  Fit fit(mesh);
  fit.step();  // what only a first step does is done
  CudaGraph graph = CudaGraph::record(world.device(), [&] { fit.step(); });
  for (int k = 1; k < kSteps; ++k) graph.replay();  // dropout draws anew in each
  world.print({"loss ", fit.loss.item(), " after ", graph.nodes(), " launches a replay, ", graph.bytes(), " bytes\n"});
  return fit.loss.item() == called.loss.item() && fit.w.item() == called.w.item() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, program, {.ranks = 1, .device = best_device()}); }
