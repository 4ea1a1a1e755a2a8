// SPDX-License-Identifier: Apache-2.0
// Every ordered pair of placements with data really moved on ranks that are threads: the value on every rank, replicas bit for bit, source and result
// apart, and the plan's figures against the executor's counters and the allocator. Without DTENSOR_PAIRS=all a sample.
#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "dtensor/dtensor.h"
#include "tensor/placed_values.h"
#include "tensor/placement_pairs.h"

using namespace dtensor;
using covering::Row;
using placed::Entries;
using placed::Held;
using placed::Pair;
using placed::Whole;

namespace {

constexpr std::uint64_t kSeed = 7401;
constexpr std::array<std::int64_t, 11> kSizes{0, 1, 2, 3, 5, 7, 8, 9, 13, 16, 17};

bool all_of_them() {
  const char* given = std::getenv("DTENSOR_PAIRS");
  return given != nullptr && std::string(given) == "all";
}

// What one rank saw of one pair.
struct Seen {
  Held source, result;
  std::int64_t launches = 0, bytes = 0, peak = 0;
  std::string fault;
};

Seen move(const Pair& pair, const Whole& whole, const DeviceMesh& mesh, const Shape& coordinates) {
  Seen seen;
  const Tensor local = placed::part(whole, mesh, pair.from, coordinates);
  const DTensor x = from_local(local, mesh, Placements(pair.from), {.shape = pair.shape});
  const Placements target(pair.to);
  seen.source = placed::held(x.local());
  {
    const std::int64_t before = memory_stats().current;
    reset_peak_memory();
    const CommCounter counter;
    const DTensor y = x.redistribute(target);
    y.wait();
    seen.peak = memory_stats().peak - before + local.bytes();
    seen.launches = counter.launches();
    seen.bytes = counter.bytes_received();
    seen.result = placed::held(y.local());
    if (placed::bytes_of(x.local()) != seen.source.bytes) seen.fault = "the source changed";
    placed::overwrite(y.local());
    if (placed::bytes_of(x.local()) != seen.source.bytes) seen.fault = "a write to the result shows in the source";
  }
  const DTensor y = x.redistribute(target);
  placed::overwrite(x.local());
  if (placed::bytes_of(y.local()) != seen.result.bytes) seen.fault = "a write to the source shows in the result";
  return seen;
}

// Empty when what the ranks saw is what placements and plan say.
std::string fault_of(const Pair& pair, const Whole& whole, const DeviceMesh& mesh, const Plan& plan, const std::vector<Seen>& ranks) {
  std::vector<Held> sources, results;
  std::int64_t worst = 0, total = 0;
  for (const Seen& seen : ranks) {
    if (!seen.fault.empty()) return seen.fault;
    sources.push_back(seen.source);
    results.push_back(seen.result);
    worst = std::max(worst, seen.bytes);
    total += seen.bytes;
    if (seen.launches != plan.launches())
      return "a rank launched " + std::to_string(seen.launches) + " times, the plan says " + std::to_string(plan.launches());
    if (seen.peak > plan.peak_bytes())
      return "a rank used " + std::to_string(seen.peak) + " bytes, the plan says " + std::to_string(plan.peak_bytes());
  }
  if (const std::string fault = placed::fault_of(whole, mesh, pair.from, sources); !fault.empty()) return "source: " + fault;
  if (const std::string fault = placed::fault_of(whole, mesh, pair.to, results); !fault.empty()) return fault;
  if (worst != plan.bytes_received().max)
    return "the worst rank received " + std::to_string(worst) + " bytes, the plan says " + std::to_string(plan.bytes_received().max);
  if (total != plan.bytes_received().total)
    return "ranks received " + std::to_string(total) + " bytes, the plan says " + std::to_string(plan.bytes_received().total);
  return {};
}

DeviceMesh mesh_of(const World& world, const std::vector<int>& sizes) {
  std::vector<MeshAxis> axes;
  for (std::size_t a = 0; a < sizes.size(); ++a) axes.push_back({covering::axis_names()[a], sizes[a]});
  return world.mesh(axes);
}

// One world for all pairs, checked in batches so that few results are kept. The faults found.
std::vector<std::string> faults_of(const std::vector<int>& sizes, const std::vector<Pair>& pairs) {
  const int ranks = std::accumulate(sizes.begin(), sizes.end(), 1, std::multiplies<>());
  constexpr std::size_t kBatch = 500;
  std::vector<std::vector<Seen>> seen(kBatch, std::vector<Seen>(static_cast<std::size_t>(ranks)));
  std::vector<std::string> faults;
  run_ranks({.ranks = ranks, .threads_per_rank = 1}, [&](World& world) {
    const DeviceMesh mesh = mesh_of(world, sizes);
    const auto rank = static_cast<std::size_t>(world.rank());
    const Shape coordinates = testing::positions(mesh)[rank];
    for (std::size_t first = 0; first < pairs.size(); first += kBatch) {
      const std::size_t count = std::min(kBatch, pairs.size() - first);
      for (std::size_t i = 0; i < count; ++i) {
        const Pair& pair = pairs[first + i];
        seen[i][rank] = move(pair, placed::make_whole(pair.shape, pair.dtype, kSeed), mesh, coordinates);
      }
      world.barrier();
      if (rank == 0)
        for (std::size_t i = 0; i < count; ++i) {
          const Pair& pair = pairs[first + i];
          const Plan plan = make_plan(mesh, pair.shape, pair.dtype, Placements(pair.from), Placements(pair.to));
          const std::string fault = fault_of(pair, placed::make_whole(pair.shape, pair.dtype, kSeed), mesh, plan, seen[i]);
          if (!fault.empty()) faults.push_back(text(pair) + ": " + fault);
        }
      world.barrier();
    }
  });
  return faults;
}

void check_pairs(const std::vector<int>& sizes, const std::vector<Pair>& pairs) {
  const auto faults = faults_of(sizes, pairs);
  for (std::size_t i = 0; i < faults.size() && i < 20; ++i) FAIL_CHECK(faults[i]);
  CHECK_EQ(faults.size(), 0);
}

// Every pair of choices on one axis in every legal dtype, for every shape; of three dimensions every two sizes together.
std::vector<Pair> pairs_of_one_axis(int ranks, std::size_t step, covering::Random& random) {
  std::vector<Pair> pairs;
  std::size_t skip = 0;
  const auto add = [&](const Shape& shape, int choice_from, int choice_to, Dtype dtype) {
    const auto legal = [&](int c) { return covering::legal(covering::entries_of({ranks}, shape, &c, 0), dtype); };
    if (!legal(choice_from) || !legal(choice_to) || skip-- > 0) return;
    skip = step == 1 ? 0 : static_cast<std::size_t>(random.below(static_cast<int>(2 * step - 1)));
    pairs.push_back({shape, dtype, covering::entries_of({ranks}, shape, &choice_from, 0), covering::entries_of({ranks}, shape, &choice_to, 0)});
  };
  std::vector<Shape> shapes{{}};
  for (std::int64_t n : kSizes) shapes.push_back({n});
  for (std::int64_t m : kSizes)
    for (std::int64_t n : kSizes) shapes.push_back({m, n});
  const int sizes = static_cast<int>(kSizes.size());
  for (const Row& row : covering::cover(
                            {sizes, sizes, sizes}, [](const Row&) { return true; }, kSeed)
                            .rows) {
    Shape& shape = shapes.emplace_back();
    for (int k : row) shape.push_back(kSizes[static_cast<std::size_t>(k)]);
  }
  for (const Shape& shape : shapes)
    for (int i = 0; i < covering::choice_count(shape.ndim()); ++i)
      for (int j = 0; j < covering::choice_count(shape.ndim()); ++j)
        for (int d = 0; d < kDtypeCount; ++d) add(shape, i, j, static_cast<Dtype>(d));
  return pairs;
}

}  // namespace

TEST_CASE("every pair of placements on one axis moves the value, and what the plan states") {
  covering::Random random(kSeed);
  std::size_t count = 0;
  for (int ranks : {1, 2, 3, 4, 6}) {
    const auto pairs = pairs_of_one_axis(ranks, all_of_them() ? 1 : 150, random);
    count += pairs.size();
    check_pairs({ranks}, pairs);
  }
  std::printf("one axis: %zu pairs, seed %llu, %s\n", count, static_cast<unsigned long long>(kSeed), all_of_them() ? "all" : "a sample");
  CHECK_GT(count, 1000);
}

TEST_CASE("every two choices of placements, orders, sizes and dtypes on several axes move the value, and what the plan states") {
  std::size_t count = 0, met = 0, unreached = 0;
  std::uint64_t seed = kSeed;
  for (const auto& mesh : std::vector<std::vector<int>>{{2, 2}, {4, 2}, {3, 2}, {2, 3}, {2, 2, 2}}) {
    std::vector<Pair> pairs;
    for (int ndim : {0, 1, 2, 3}) {
      const placed::PairArray all = placed::covering_pairs(mesh, ndim, kSizes, ++seed);
      for (std::size_t k = 0; k < all.pairs.size(); k += all_of_them() ? 1 : 10) pairs.push_back(all.pairs[k]);
      met += all.array.pairs - all.array.unreached;
      unreached += all.array.unreached;
    }
    count += pairs.size();
    check_pairs(mesh, pairs);
  }
  std::printf("several axes: %zu pairs (the whole array has every two of %zu choices; %zu are in no legal row), seeds from %llu\n", count, met,
              unreached, static_cast<unsigned long long>(kSeed + 1));
  CHECK_GT(count, 500);
}

TEST_CASE("meshes and shapes beyond the grid move the value, and what the plan states") {
  const bool held = rc::check("a random pair on a random mesh", [] {
    std::vector<int> sizes;
    int ranks = 1;
    for (const int axes = *rc::gen::inRange(1, 4); static_cast<int>(sizes.size()) < axes;) {
      sizes.push_back(*rc::gen::inRange(1, 8 / ranks + 1));
      ranks *= sizes.back();
    }
    const int ndim = *rc::gen::inRange(0, 4);
    std::vector<Pair> pairs;
    for (int k = 0; k < 5; ++k) {
      Pair p;
      p.dtype = static_cast<Dtype>(*rc::gen::inRange(0, kDtypeCount));
      for (int d = 0; d < ndim; ++d) p.shape.push_back(*rc::gen::inRange<std::int64_t>(0, ndim == 3 ? 12 : 40));
      const auto entries = [&] {
        const auto choices = *rc::gen::container<std::vector<int>>(sizes.size(), rc::gen::inRange(0, covering::choice_count(ndim)));
        return covering::entries_of(sizes, p.shape, choices.data(), *rc::gen::inRange(0, covering::order_count(sizes.size())));
      };
      p.from = entries();
      p.to = entries();
      if (covering::legal(p.from, p.dtype) && covering::legal(p.to, p.dtype)) pairs.push_back(p);
    }
    const auto faults = faults_of(sizes, pairs);
    if (!faults.empty()) RC_FAIL(faults[0]);
  });
  CHECK(held);
}

TEST_CASE("what is planted in results and figures is reported") {
  const Pair pair{{5, 3}, Dtype::f32, {{"dp", Shard(0)}, {"tp", Partial()}}, {{"dp", Replicate()}, {"tp", Shard(1)}}};
  const Whole whole = placed::make_whole(pair.shape, pair.dtype, kSeed);
  std::vector<Seen> seen(4);
  std::optional<DeviceMesh> mesh;
  std::optional<Plan> plan;
  run_ranks({.ranks = 4}, [&](World& world) {
    const DeviceMesh m = mesh_of(world, {2, 2});
    const auto rank = static_cast<std::size_t>(world.rank());
    seen[rank] = move(pair, whole, m, testing::positions(m)[rank]);
    if (rank == 0) mesh = m, plan = make_plan(m, pair.shape, pair.dtype, Placements(pair.from), Placements(pair.to));
  });
  CHECK(fault_of(pair, whole, *mesh, *plan, seen) == "");
  const auto with = [&](const std::function<void(Seen&)>& plant) {
    std::vector<Seen> broken = seen;
    plant(broken[2]);
    return fault_of(pair, whole, *mesh, *plan, broken);
  };
  CHECK(with([](Seen& s) { ++s.launches; }) != "");
  CHECK(with([](Seen& s) { s.bytes += 400; }).find("the worst rank received") == 0);
  CHECK(with([](Seen& s) { --s.bytes; }) != "");
  CHECK(with([&](Seen& s) { s.peak = plan->peak_bytes() + 1; }).find("a rank used") == 0);
  CHECK(with([](Seen& s) { s.result.values[0] += 1; }).find("element") == 0);
  CHECK(with([](Seen& s) { s.result.bytes[0] ^= 1; }).find("ranks 0 and 2 hold different replicas") == 0);
  CHECK(with([](Seen& s) { s.result.shape[0] = 4; }).find("rank 2 holds") == 0);
  CHECK(with([](Seen& s) { s.source.values[0] += 1; }).find("source: ") == 0);
  CHECK(with([](Seen& s) { s.fault = "the source changed"; }) == "the source changed");
}
