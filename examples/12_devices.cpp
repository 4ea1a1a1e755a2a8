// SPDX-License-Identifier: Apache-2.0
// The same program on a GPU and without one: ranks are threads, and they share the device when there are fewer devices than ranks.
#include <dtensor/dtensor.h>
using namespace dtensor;

namespace {

// The first device that this build and this machine have; else the CPU.
Device best_device() {
  const CudaInfo cuda = cuda_info();
  return cuda.devices.empty() ? Device::cpu() : Device::cuda(0);
}

int program(World& world) {
  const DeviceMesh mesh = world.mesh({{"tp", world.size()}});
  const DTensor x = randn({64, 128}, mesh), w = randn({128, 256}, mesh, {Shard(1)});  // on world.device()
  const DTensor y = relu(matmul(x, w));                                               // queued; the host goes on
  const DTensor whole = y.redistribute({Replicate()});                                // so is this

  const Tensor here = whole.local().to(Device::cpu());  // waits until it is there
  const MemoryStats memory = memory_stats(world.device());
  world.print({"on ", to_string(world.device()), ": ", y, ", ", memory.peak, " bytes at most\n"});
  const double total = sum(whole).item();
  double expected = 0;
  for (const float v : here.values<const float>()) expected += v;
  return std::abs(total - expected) <= 1e-4 * expected && memory.peak >= whole.local().bytes() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, program, {.ranks = 2, .device = best_device()}); }
