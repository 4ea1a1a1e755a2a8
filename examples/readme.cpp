// SPDX-License-Identifier: Apache-2.0
#include <dtensor/dtensor.h>
using namespace dtensor;

int hello(World& world) {                                   // runs on every rank
  DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", -1}});    // -1: what is left of the ranks
  DTensor x = randn({64, 1024}, mesh, {{"dp", Shard(0)}});  // rows over dp, replicated over tp
  DTensor w = randn({1024, 4096}, mesh, {{"tp", Shard(1)}}, {.requires_grad = true});

  DTensor y = relu(matmul(x, w));                  // no communication
  world.print({"y = ", y});                        // f32[64, 4096]{dp: S(0), tp: S(1)}
  world.print({explain(y, {{"dp", Shard(0)}})});   // what the next line will move, and what it costs
  DTensor z = y.redistribute({{"dp", Shard(0)}});  // all_gather[tp]

  mean(z).backward();  // the gradient lies as w does
  world.print({"w.grad() = ", w.grad(), ", mean ", mean(z).item()});
  world.log({"my part of y is ", y.local().shape()});  // one line of every rank
  return 0;
}
int main(int argc, char** argv) { return run(argc, argv, hello); }  // ./hello --ranks 4, or a launcher
