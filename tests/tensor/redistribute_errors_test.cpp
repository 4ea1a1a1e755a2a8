// SPDX-License-Identifier: Apache-2.0
// What redistribute refuses, by text and on every rank alike; the world stays usable. Memory limits are met or named.
#include <doctest/doctest.h>

#include <functional>

#include "dtensor/dtensor.h"
#include "tensor/placed_values.h"

using namespace dtensor;

namespace {

// The text that every rank of 2 x 2 throws; what ranks say that do not agree. A collective after it must work.
std::string refusal(const std::function<void(const DTensor& x, const DeviceMesh& mesh)>& call,
                    const Placements& placements = {Shard(0), Replicate()}) {
  const auto texts = collect({.ranks = 4}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
    const DTensor x = distribute(Tensor::zeros({8, 6}, Dtype::f32), mesh, placements);
    std::string text = "nothing was thrown";
    try {
      call(x, mesh);
    } catch (const InvalidArgument& e) { text = e.what(); }
    const DTensor ones = distribute(Tensor::of(std::vector<float>{1, 1}, {2}), mesh, {Shard(0), Replicate()});
    if (ones.full_tensor().local().values<const float>()[1] != 1.0F) text += "; the world is broken";
    return text;
  });
  std::string all = texts[0];
  for (const std::string& text : texts)
    if (text != texts[0]) all += " | " + text;
  return all;
}
std::string refusal_of(const Placements& target) {
  return refusal([&](const DTensor& x, const DeviceMesh&) { (void)x.redistribute(target); });
}

std::int64_t number_after(const std::string& text, const std::string& words) {
  const auto at = text.find(words);
  REQUIRE_MESSAGE(at != std::string::npos, text);
  return std::stoll(text.substr(at + words.size()));
}

}  // namespace

TEST_CASE("targets that are no placements of the tensor are refused by text on every rank") {
  CHECK(refusal_of({Shard(0)}) == "redistribute: 1 placements for 2 axes ({0: S(0)} on Mesh(dp=2, tp=2)); give one per mesh axis, or name the axes");
  CHECK(refusal_of({Shard(0), Replicate(), Replicate()}) ==
        "redistribute: 3 placements for 2 axes ({0: S(0), 1: R, 2: R} on Mesh(dp=2, tp=2)); give one per mesh axis, or name the axes");
  CHECK(refusal_of({Shard(2), Replicate()}) == "redistribute: S(2) names dim 2 of a tensor with 2 dims ([8, 6]); use a dim of the tensor");
  CHECK(refusal_of({RaggedShard{0, {4, 3}}, Replicate()}) ==
        "redistribute: sizes of Ragged(0, 4 3) add up to 7, the dim has 8 ([8, 6]); make the sum equal");
  CHECK(refusal_of({Shard(0), RaggedShard{0, {4, 4}}}) ==
        "redistribute: Ragged(0, 4 4) is not the first split of its dim (axis 'dp' splits it before); put it first");
  CHECK(refusal_of({{"pp", Shard(0)}}) == "redistribute: unknown axis 'pp' of Mesh(dp=2, tp=2); its axes are dp, tp");
  CHECK(refusal_of({Partial(ReduceOp::sum), Partial(ReduceOp::max)}).find("do not commute") != std::string::npos);
}

TEST_CASE("unknown notation is refused with the column of the error") {
  const auto parsing = [](const char* text) {
    return refusal([&](const DTensor& x, const DeviceMesh&) { (void)x.redistribute(Placements::parse(text)); });
  };
  CHECK(parsing("{dp: S(0), tp: Q(1)}") ==
        "placements: expected a placement: S(0), SS(0, 2), Ragged(0, 4 2), R or P(sum) at column 16 (found 'Q(1)}' in '{dp: S(0), tp: Q(1)}'); "
        "write such as {dp: S(0), tp: P(sum)}");
  CHECK(parsing("{dp: P(mean)}") ==
        "placements: expected sum, avg, min, max or product at column 8 (found 'mean)}' in '{dp: P(mean)}'); write such as {dp: S(0), tp: P(sum)}");
}

TEST_CASE("a memory limit that cannot be met names the least that would do, and that does") {
  const Placements from{Partial(ReduceOp::max), Partial(ReduceOp::max)}, to{Partial(ReduceOp::sum), Shard(1)};
  const auto limited = [&](std::int64_t limit) {
    return refusal([&](const DTensor& x, const DeviceMesh&) { (void)x.redistribute(to, {.memory_limit = limit}); }, from);
  };
  const std::int64_t least = number_after(limited(8), "the least peak is ");
  CHECK(limited(8) == "redistribute: the memory limit cannot be met (8 bytes, the least peak is " + std::to_string(least) + "); raise it to " +
                          std::to_string(least));
  CHECK(limited(least - 1) == "redistribute: the memory limit cannot be met (" + std::to_string(least - 1) + " bytes, the least peak is " +
                                  std::to_string(least) + "); raise it to " + std::to_string(least));
  CHECK(limited(least) == "nothing was thrown");
  CHECK(limited(-1).find("the memory limit is negative (-1)") != std::string::npos);
}

TEST_CASE("ranks outside the mesh meet the refusal of a memory limit as well") {
  const auto texts = collect({.ranks = 3}, [](World& world) {
    const std::vector<int> ranks{0, 1};
    const DeviceMesh mesh = world.mesh({{"dp", 2}}, ranks);
    const DTensor x = zeros({8, 6}, mesh, {Shard(0)});
    std::string text = "nothing was thrown";
    try {
      (void)x.redistribute(Placements{Shard(1)}, {.memory_limit = 8});
    } catch (const InvalidArgument& e) { text = e.what(); }
    world.barrier();
    return text;
  });
  CHECK(texts[0].find("redistribute: the memory limit cannot be met (8 bytes") == 0);
  CHECK(texts[1] == texts[0]);
  CHECK(texts[2] == texts[0]);
}

TEST_CASE("the least limit of every pair of a sample is met by plan and allocator, and one byte less is refused") {
  int other_plans = 0, errors = 0;
  const std::vector<int> sizes{2, 2};
  const Shape shape{5, 6};
  covering::Random random(99);
  std::vector<std::pair<placed::Entries, placed::Entries>> pairs;
  while (pairs.size() < 150) {
    const auto entries = [&] {
      const std::array<int, 2> choices{random.below(covering::choice_count(2)), random.below(covering::choice_count(2))};
      return covering::entries_of(sizes, shape, choices.data(), random.below(2));
    };
    const auto from = entries(), to = entries();
    if (covering::legal(from, Dtype::f32) && covering::legal(to, Dtype::f32)) pairs.emplace_back(from, to);
  }
  const auto faults = collect({.ranks = 4, .threads_per_rank = 1}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
    const Shape coordinates = testing::positions(mesh)[static_cast<std::size_t>(world.rank())];
    const placed::Whole whole = placed::make_whole(shape, Dtype::f32, 1);
    std::string fault;
    for (const auto& [from, to] : pairs) {
      const Placements source(from), target(to);
      const auto plan_with = [&, &from = from, &to = to](std::int64_t limit) {
        return make_plan(mesh, shape, Dtype::f32, Placements(from), Placements(to), limit);
      };
      const Plan free = plan_with(0);
      std::int64_t least = free.peak_bytes();
      // Lower the limit until the error names the least.
      for (bool met = true; met;) {
        try {
          const std::int64_t lower = plan_with(least - 1).peak_bytes();
          if (lower >= least) fault = "a plan beyond its limit";
          least = lower;
          if (world.rank() == 0) ++other_plans;
        } catch (const InvalidArgument& e) {
          const std::string text = e.what(), words = "the least peak is ";
          if (text.find(words) == std::string::npos || std::stoll(text.substr(text.find(words) + words.size())) != least) fault = text;
          if (world.rank() == 0) ++errors;
          met = false;
        }
      }
      const DTensor x = from_local(placed::part(whole, mesh, from, coordinates), mesh, source, {.shape = shape});
      const std::int64_t before = memory_stats().current - x.local().bytes();
      reset_peak_memory();
      const DTensor y = x.redistribute(target, {.memory_limit = least});
      y.wait();
      if (memory_stats().peak - before > least)
        fault =
            covering::text(from) + " -> " + covering::text(to) + ": " + std::to_string(memory_stats().peak - before) + " of " + std::to_string(least);
      if (placed::numbers(y.full_tensor().local()) != whole.values) fault = covering::text(from) + " -> " + covering::text(to) + ": another value";
    }
    return fault;
  });
  for (const std::string& fault : faults) CHECK(fault == "");
  CHECK_GT(other_plans, 0);
  CHECK_EQ(errors, 150);
}
