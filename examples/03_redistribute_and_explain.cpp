// SPDX-License-Identifier: Apache-2.0
// redistribute() takes a tensor from any placement to any other by a shortest path of collectives; explain() shows the path before a byte
// moves, and a CommCounter shows what really moved.
#include <dtensor/dtensor.h>
using namespace dtensor;

namespace {

// One move after the other, each against what the plan said.
bool moves(World& world) {
  const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
  DTensor x = randn({64, 96}, mesh, {Shard(0), Shard(1)});
  const DTensor start = x;
  bool right = true;
  for (const char* target :
       {"{dp: S(0), tp: R}", "{dp: S(1), tp: S(0)}", "{dp: R, tp: R}", "{dp: P(sum), tp: R}", "{dp: S(0), tp: S(0)}", "{tp: S(0), dp: S(0)}"}) {
    const Placements placements = Placements::parse(target);
    const Plan plan = explain(x, placements);
    world.print({plan});
    const CommCounter counter;
    const DTensor y = x.redistribute(placements);
    y.wait();
    world.print({"  moved: ", counter});
    right = right && to_string(y.placements()) == target && counter.launches() == plan.launches() &&
            counter.bytes_received() <= plan.bytes_received().max;
    x = y;
  }
  return right && allclose(x, start);
}

// A result of an unfinished sum is reduced only when someone asks for it, and straight to where it is wanted.
bool reduce_scatter(World& world) {
  const DeviceMesh mesh = world.mesh({{"x", 4}});
  const DTensor a = randn({8, 64}, mesh, {Shard(1)}), b = randn({64, 16}, mesh, {Shard(0)});
  const DTensor y = matmul(a, b);
  world.print({"a row-split product is ", y});
  const CommCounter counter;
  const DTensor scattered = y.redistribute({Shard(0)});
  world.print({scattered, " by ", counter});
  return counter.launches("reduce_scatter") == 1 && counter.launches() == 1 && allclose(y, scattered, {.rtol = 1e-5, .atol = 1e-5});
}

// A value: writing to the result never shows in the source.
bool values(World& world) {
  const DeviceMesh mesh = world.mesh({{"x", 4}});
  const DTensor x = ones({4, 4}, mesh, {Shard(0)});
  const DTensor y = x.redistribute({Shard(0)});
  mul_(y, 3);
  return sum(x).item() == 16 && sum(y).item() == 48;
}

// What links cost decides the route: across slow ones goes as little as possible, however many launches that takes.
bool topology(World& world) {
  const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
  const DTensor x = ones({4096, 1024}, mesh, {Partial(), Partial()});
  const Plan near = explain(x, {});
  Topology machine = Topology::cluster(2, 2);                         // 2 hosts of 2 GPUs: NVLink inside, InfiniBand between
  machine.axes = {{"tp", {.latency_us = 6, .bandwidth_gb_s = 300}}};  // by hand: an axis by name or by position
  world.set_topology(machine);                                        // collective: ranks that differ all get one error that shows two of them
  const Plan far = explain(x, {});
  world.print({far});
  return near.launches() == 1 && far.launches() == 3 && sum(x.redistribute({})).item() == 4096 * 1024;
}

int program(World& world) {
  const bool right[] = {moves(world), reduce_scatter(world), values(world), topology(world)};
  for (const bool part : right)
    if (!part) return 1;
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, program, {.ranks = 4}); }
