// SPDX-License-Identifier: Apache-2.0
// The world's topology: set by all ranks alike, chooses routes and nothing else, and no plan outlives it.
#include "dtensor/topology.h"

#include <doctest/doctest.h>

#include <string>

#include "dtensor/debug.h"
#include "dtensor/error.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/factories.h"
#include "dtensor/ops/matmul.h"
#include "dtensor/world.h"

using namespace dtensor;

namespace {

Topology slow_outer() {
  Topology t;
  t.axes = {{"dp", {200, 0.05}}};
  return t;
}

std::vector<std::string> kinds(const Plan& plan) {
  std::vector<std::string> result;
  for (const PlanMove& move : plan.moves()) result.push_back(move.kind);
  return result;
}

// What moving x to `target` launches.
std::vector<std::string> launched(const DTensor& x, const Placements& target) {
  const CommCounter counter;
  x.redistribute(target).wait();
  std::vector<std::string> result;
  for (const CommCount& c : counter.counts()) result.push_back(c.kind);
  return result;
}

std::string error_of(World& world, const Topology& topology) {
  try {
    world.set_topology(topology);
  } catch (const InvalidArgument& e) { return e.what(); }
  return "no error";
}

const std::vector<std::string> kOne{"all_reduce"}, kThree{"reduce_scatter", "all_reduce", "all_gather"};

}  // namespace

TEST_CASE("changing the topology changes the route of the same redistribute, and changing it back brings the old one") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
    const DTensor x = ones({1 << 12}, mesh, {Partial(), Partial()});
    CHECK(world.topology() == Topology());
    CHECK(launched(x, {}) == kOne);
    CHECK(kinds(explain(x, {})) == kOne);
    world.set_topology(slow_outer());
    CHECK(world.topology() == slow_outer());
    CHECK(launched(x, {}) == kThree);
    CHECK(kinds(explain(x, {})) == kThree);
    const DTensor y = x.redistribute({});
    for (float v : y.local().values<const float>()) REQUIRE_EQ(v, 1.0F);
    world.set_topology({});
    CHECK(launched(x, {}) == kOne);
    const PlanCacheStats before = plan_cache_stats();
    x.redistribute({}).wait();
    CHECK_EQ(plan_cache_stats().misses, before.misses);
  });
}

TEST_CASE("placements that an op gives, and what it asks of its inputs, are the same under every topology") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
    const std::vector<Placements> some{
        {Shard(0), Shard(1)}, {Shard(1), Shard(0)}, {Partial(), Partial()}, {Replicate(), Shard(1)}, {Shard(0), Partial()}};
    const auto results = [&] {
      std::string texts;
      for (const Placements& a : some)
        for (const Placements& b : some) {
          const DTensor x = ones({64, 64}, mesh, a), y = ones({64, 64}, mesh, b);
          texts += to_string(matmul(x, y).placements()) + to_string(mul(x, y).placements()) + to_string(add(x, y).placements());
        }
      return texts;
    };
    const std::string before = results();
    Topology inner;
    inner.axes = {{"1", {500, 0.01, true}}};
    for (const Topology& t : {slow_outer(), inner, Topology::one_host(), Topology::cluster(2, 2)}) {
      world.set_topology(t);
      CHECK_EQ(results(), before);
    }
  });
}

TEST_CASE("ranks with different topologies all get the same error, which shows two of them, and the old one stays") {
  std::vector<std::string> texts(4);
  run_ranks({.ranks = 4}, [&](World& world) {
    world.set_topology(slow_outer());
    texts[static_cast<std::size_t>(world.rank())] = error_of(world, world.rank() == 2 ? Topology::one_host() : Topology());
    CHECK(world.topology() == slow_outer());
    CHECK(world.any(world.rank() == 3));
  });
  for (const std::string& text : texts)
    CHECK_EQ(
        text,
        "World::set_topology: ranks give different topologies (rank 0: 2 us 10 GB/s; copies 20 GB/s, launch 0.5 us, rank 2: 8 us 400 GB/s; copies "
        "1500 GB/s, launch 4 us); give the same on all, for example by reading one file");
}

TEST_CASE("bad figures and too few hosts are refused on all ranks, and the world stays usable") {
  run_ranks({.ranks = 4}, [](World& world) {
    Topology bad;
    bad.link.bandwidth_gb_s = 0;
    CHECK_EQ(error_of(world, bad), "topology: link.bandwidth_gb_s must be finite and above 0 (0); correct the figure");
    bad = {};
    bad.copy_gb_s = -1;
    CHECK_EQ(error_of(world, bad), "topology: copy_gb_s must be finite and above 0 (-1); correct the figure");
    CHECK_EQ(error_of(world, Topology::cluster(1, 3)),
             "topology: the mesh has rank 3 and 3 hosts of 1 ranks end at rank 2; describe as many hosts as there are");
    CHECK(world.topology() == Topology());
    world.barrier();
  });
}

TEST_CASE("a fake world takes a topology too") {
  World world = World::fake(9000, 16384);
  world.set_topology(Topology::cluster(8, 2048));
  const DTensor x = ones({1 << 20}, world.mesh({{"dp", 2048}, {"tp", 8}}), {Partial(), Partial()});
  CHECK(kinds(explain(x, {})) == kThree);
  CHECK_THROWS_AS(measure_topology(world), Unsupported);
}

TEST_CASE("a measured topology is the same on all ranks, has a link for every axis asked for, and can be used") {
  std::vector<std::string> texts(4);
  int lines = 0;
  run_ranks({.ranks = 4}, [&](World& world) {
    MeasureOptions options;
    options.mesh = world.mesh({{"dp", 2}, {"tp", 2}});
    options.bytes = 1 << 16;
    options.progress = [&](std::string_view line) { lines += line.empty() ? 0 : 1; };
    const Topology measured = measure_topology(world, options);
    texts[static_cast<std::size_t>(world.rank())] = measured.json();
    REQUIRE_EQ(measured.axes.size(), 2);
    CHECK_EQ(measured.axes[0].axis, "dp");
    CHECK_EQ(measured.axes[1].axis, "tp");
    world.set_topology(measured);
    CHECK_EQ(explain(ones({64}, options.mesh, {Partial(), Partial()}), {}).bytes_received().max, 256 + 2 * 64);
  });
  CHECK_EQ(lines, 6);
  for (const std::string& text : texts) CHECK_EQ(text, texts[0]);
}

TEST_CASE("what cannot be measured is refused") {
  run_ranks({.ranks = 2}, [](World& world) {
    CHECK_THROWS_WITH_AS(measure_topology(world, {.bytes = 100}), "measure_topology: a large exchange has at least 4096 bytes (got 100); give more",
                         InvalidArgument);
    CHECK_THROWS_WITH_AS(measure_topology(world, {.mesh = DeviceMesh::self()}),
                         "measure_topology: the mesh has 1 ranks and the world 2; give one over all ranks", InvalidArgument);
  });
  run_ranks({.ranks = 1}, [](World& world) { CHECK(measure_topology(world, {.bytes = 4096}).link == Link{}); });
}
