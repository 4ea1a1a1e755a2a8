// SPDX-License-Identifier: Apache-2.0
// Memory limits: between the least and what the cheapest plan takes, every limit gives a plan that keeps to it, in chunks where that serves, and what ran
// is what the plan states.
#include <doctest/doctest.h>

#include <cstdio>
#include <limits>
#include <set>

#include "dtensor/dtensor.h"
#include "tensor/placed_values.h"

using namespace dtensor;
using placed::Entries;
using placed::Held;
using placed::Whole;

namespace {

constexpr std::uint64_t kSeed = 2203;

struct Case {
  std::vector<int> mesh;
  Shape shape;
  Entries from, to;
};
std::string text(const Case& c) { return to_string(c.shape) + covering::text(c.from) + " -> " + covering::text(c.to); }

// Pairs whose cheapest plan is not the smallest.
std::vector<Case> sample(const std::vector<int>& mesh, const Shape& shape, std::size_t count) {
  covering::Random random(kSeed);
  std::vector<Case> cases;
  while (cases.size() < count) {
    const auto entries = [&] {
      std::vector<int> choices(mesh.size());
      for (int& c : choices) c = random.below(2) ? 1 + random.below(5) : random.below(covering::choice_count(shape.ndim()));
      return covering::entries_of(mesh, shape, choices.data(), random.below(covering::order_count(mesh.size())));
    };
    Case c{mesh, shape, entries(), entries()};
    if (covering::legal(c.from, Dtype::f32) && covering::legal(c.to, Dtype::f32)) cases.push_back(std::move(c));
  }
  return cases;
}

DeviceMesh mesh_of(const World& world, const std::vector<int>& sizes) {
  std::vector<MeshAxis> axes;
  for (std::size_t a = 0; a < sizes.size(); ++a) axes.push_back({covering::axis_names()[a], sizes[a]});
  return world.mesh(axes);
}

Plan plan_of(const Case& c, const DeviceMesh& mesh, std::int64_t limit) {
  return make_plan(mesh, c.shape, Dtype::f32, Placements(c.from), Placements(c.to), limit);
}

std::int64_t least_of(const Case& c, const DeviceMesh& mesh) {
  try {
    (void)plan_of(c, mesh, 1);
  } catch (const InvalidArgument& e) {
    const std::string words = "the least peak is ", given = e.what();
    if (const auto at = given.find(words); at != std::string::npos) return std::stoll(given.substr(at + words.size()));
  }
  return 0;  // nothing is held
}

struct Seen {
  std::int64_t launches = 0, bytes = 0, peak = 0;
  Held result;
  std::string fault, plan;
};

Seen move(const Case& c, const Whole& whole, const DeviceMesh& mesh, const Shape& coordinates, std::int64_t limit) {
  Seen seen;
  const Tensor local = placed::part(whole, mesh, c.from, coordinates);
  const std::string bytes = placed::bytes_of(local);
  const DTensor x = from_local(local, mesh, Placements(c.from), {.shape = c.shape});
  const std::int64_t before = memory_stats().current;
  reset_peak_memory();
  const CommCounter counter;
  const DTensor y = x.redistribute(Placements(c.to), {.memory_limit = limit});
  y.wait();
  seen.peak = memory_stats().peak - before + local.bytes();
  seen.launches = counter.launches();
  seen.bytes = counter.bytes_received();
  seen.result = placed::held(y.local());
  seen.plan = to_string(plan_of(c, mesh, limit));
  placed::overwrite(y.local());
  if (placed::bytes_of(x.local()) != bytes) seen.fault = "a write to the result shows in the source";
  return seen;
}

std::string fault_of(const Case& c, const Whole& whole, const DeviceMesh& mesh, const Plan& plan, const std::vector<Seen>& ranks) {
  std::vector<Held> results;
  std::int64_t worst = 0, total = 0, peak = 0;
  for (const Seen& seen : ranks) {
    if (!seen.fault.empty()) return seen.fault;
    if (seen.plan != ranks[0].plan) return "ranks plan differently: " + seen.plan + " and " + ranks[0].plan;
    if (seen.launches != plan.launches()) return "a rank launched " + std::to_string(seen.launches) + " times: " + to_string(plan);
    results.push_back(seen.result);
    worst = std::max(worst, seen.bytes);
    total += seen.bytes;
    peak = std::max(peak, seen.peak);
  }
  if (peak > plan.peak_bytes()) return "a rank used " + std::to_string(peak) + " bytes: " + to_string(plan);
  if (worst != plan.bytes_received().max || total != plan.bytes_received().total)
    return "ranks received " + std::to_string(worst) + " and " + std::to_string(total) + " bytes, planned are " +
           std::to_string(plan.bytes_received().max) + " and " + std::to_string(plan.bytes_received().total) + ": " + to_string(plan);
  return placed::fault_of(whole, mesh, c.to, results);
}

}  // namespace

TEST_CASE("every limit between the least and the cheapest plan's peak is kept, by plan and allocator, with the right value") {
  int limits = 0, chunked = 0;
  std::set<int> counts;
  const std::vector<std::pair<std::vector<int>, Shape>> places{
      {{2, 2}, {8, 6}}, {{2, 2}, {5, 7}}, {{4}, {6, 5}}, {{3, 2}, {7, 2, 5}}, {{2, 2}, {16}}};
  for (const auto& [mesh_sizes, shape] : places) {
    const auto cases = sample(mesh_sizes, shape, 60);
    const Whole whole = placed::make_whole(shape, Dtype::f32, kSeed);
    int ranks = 1;
    for (int n : mesh_sizes) ranks *= n;
    std::vector<Seen> seen(static_cast<std::size_t>(ranks));
    run_ranks({.ranks = ranks, .threads_per_rank = 1}, [&, &sizes = mesh_sizes](World& world) {
      const DeviceMesh mesh = mesh_of(world, sizes);
      const auto rank = static_cast<std::size_t>(world.rank());
      const Shape coordinates = testing::positions(mesh)[rank];
      for (const Case& c : cases) {
        const std::int64_t least = least_of(c, mesh), most = plan_of(c, mesh, 0).peak_bytes();
        if (least == most) continue;
        for (const std::int64_t limit : {least, least + (most - least) / 3, least + 2 * (most - least) / 3, most - 1}) {
          const Plan plan = plan_of(c, mesh, limit);
          seen[rank] = move(c, whole, mesh, coordinates, limit);
          world.barrier();
          if (rank == 0) {
            const std::string where = text(c) + " within " + std::to_string(limit) + ": ";
            CHECK_MESSAGE(plan.peak_bytes() <= limit, where << to_string(plan));
            const std::string fault = fault_of(c, whole, mesh, plan, seen);
            CHECK_MESSAGE(fault.empty(), where << fault);
            ++limits;
            if (plan.chunks() > 1) ++chunked, counts.insert(plan.chunks());
          }
          world.barrier();
        }
      }
    });
  }
  std::printf("%d limits met, %d of them in chunks, of %zu different counts; seed %llu\n", limits, chunked, counts.size(),
              static_cast<unsigned long long>(kSeed));
  CHECK_GT(limits, 100);
  CHECK_GT(chunked, 50);
  CHECK_GT(counts.size(), 3);
}

TEST_CASE("a looser limit never gives a dearer plan, and no limit the cheapest") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = mesh_of(world, {2, 2});
    if (world.rank() != 0) return;
    int chunked = 0;
    for (const Case& c : sample({2, 2}, {64, 48}, 40)) {
      const std::int64_t least = least_of(c, mesh);
      const Plan cheapest = plan_of(c, mesh, 0);
      double last = std::numeric_limits<double>::infinity();
      for (int step = 0; step <= 16; ++step) {
        const Plan plan = plan_of(c, mesh, std::max<std::int64_t>(1, least + (cheapest.peak_bytes() - least) * step / 16));
        CHECK_MESSAGE(plan.predicted_us() <= last, text(c));
        last = plan.predicted_us();
        chunked += plan.chunks() > 1 ? 1 : 0;
      }
      CHECK_EQ(last, cheapest.predicted_us());
    }
    CHECK_GT(chunked, 100);
  });
}

TEST_CASE("in chunks of even layouts the allocator's peak is the plan's") {
  const auto peaks = collect({.ranks = 4, .threads_per_rank = 1}, [](World& world) {
    const DeviceMesh mesh = mesh_of(world, {2, 2});
    const Placements from{Shard(0), Partial(ReduceOp::max)}, to{Shard(0), Partial(ReduceOp::sum)};
    const Plan plan = make_plan(mesh, {64, 32}, Dtype::f32, from, to, 8192 + 600);
    const DTensor x = from_local(Tensor::zeros({32, 32}, Dtype::f32), mesh, from, {.shape = {64, 32}});
    const std::int64_t before = memory_stats().current - x.local().bytes();
    reset_peak_memory();
    x.redistribute(to, {.memory_limit = 8192 + 600}).wait();
    return std::vector<std::int64_t>{plan.chunks(), plan.peak_bytes(), memory_stats().peak - before};
  });
  // 32 rows of 128 bytes on a rank, two at a time: half of them reduced on each rank, and that among neutral elements.
  std::int64_t most = 0;
  for (const auto& p : peaks) {
    CHECK_EQ(p[0], 16);
    CHECK_EQ(p[1], 8192 + 256 + 128);
    most = std::max(most, p[2]);
  }
  CHECK_EQ(most, 8192 + 256 + 128);
}

TEST_CASE("a limit below the source is refused for a tensor that stays as it is, too") {
  const auto texts = collect({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}});
    const std::vector<int> first{0};
    const DTensor x = zeros({8}, mesh, {Shard(0)}), one = zeros({8}, world.mesh({{"dp", 1}}, first), {Shard(0)});
    std::string all;
    const auto note = [&](const DTensor& t, const Placements& to, std::int64_t limit) {
      try {
        (void)t.redistribute(to, {.memory_limit = limit});
        all += "done; ";
      } catch (const InvalidArgument& e) { all += std::string(e.what()) + "; "; }
    };
    note(x, {Shard(0)}, 15);  // the same
    note(x, {StridedShard(0, 1)}, 15);
    note(one, {Replicate()}, 31);  // equivalent
    note(x, {Shard(0)}, 16);
    note(one, {Replicate()}, 32);
    note(x, {Shard(0)}, -1);
    world.barrier();
    return all;
  });
  CHECK(texts[0] ==
        "redistribute: the memory limit cannot be met (15 bytes, the least peak is 16); raise it to 16; "
        "redistribute: the memory limit cannot be met (15 bytes, the least peak is 16); raise it to 16; "
        "redistribute: the memory limit cannot be met (31 bytes, the least peak is 32); raise it to 32; done; done; "
        "redistribute: the memory limit is negative (-1); give bytes, or 0 for none; ");
  CHECK(texts[1] == texts[0]);
}
