// SPDX-License-Identifier: Apache-2.0
// The first program: a mesh, two tensors on it, a product, a move that is planned before it is made. Run it with --ranks 4.
#include <dtensor/dtensor.h>
using namespace dtensor;

int hello(World& world) {
  DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", -1}});
  std::vector<float> host(64 * 1024, 1.0f);
  DTensor x = distribute(Tensor::of<float>(host, {64, 1024}), mesh, {{"dp", Shard(0)}});
  DTensor w = randn({1024, 4096}, mesh, {Replicate(), Shard(1)});
  DTensor y = relu(matmul(x, w));
  world.print({"y = ", y});
  Plan plan = explain(y, {{"dp", Shard(0)}});
  world.print({plan});
  DTensor z = y.redistribute({{"dp", Shard(0)}});
  const double average = mean(z).item();
  world.print({"mean ", average});
  Tensor mine = z.local().to(Device::cpu());
  world.log({"first value ", mine.values<float>()[0]});
  world.print({"tp has ", mesh["tp"].size(), " ranks\n", visualize(z)});
  bool refused = false;
  try {
    matmul(w, x);
  } catch (const InvalidArgument& e) {
    refused = true;
    world.print({e.what()});
  }
  // An element of x w is normal with variance 1024, the mean of its positive part is 32 / sqrt(2 pi).
  const bool right = refused && average > 12 && average < 13.6 && mine.shape() == Shape{32, 4096};
  return right ? 0 : 1;
}

int main(int argc, char** argv) { return run(argc, argv, hello); }
