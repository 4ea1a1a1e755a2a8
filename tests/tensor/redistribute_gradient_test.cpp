// SPDX-License-Identifier: Apache-2.0
// Gradients through redistribute: central differences on the global value, Partial as source and target, uneven.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>

#include "dtensor/dtensor.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/reductions.h"
#include "tensor/placed_values.h"

using namespace dtensor;
using covering::Row;
using placed::Entries;
using placed::Whole;

namespace {

constexpr std::uint64_t kSeed = 515;

struct Pair {
  Entries from, to;
};

std::vector<Pair> sample(const std::vector<int>& mesh, const Shape& shape, int count) {
  covering::Random random(kSeed);
  std::vector<Pair> pairs;
  while (static_cast<int>(pairs.size()) < count) {
    const auto entries = [&] {
      Row choices(mesh.size());
      // Half of the axes Partial, so that many pairs have it at both ends.
      for (int& c : choices) c = random.below(2) ? 1 + random.below(5) : random.below(covering::choice_count(shape.ndim()));
      return covering::entries_of(mesh, shape, choices.data(), random.below(covering::order_count(mesh.size())));
    };
    const Pair p{entries(), entries()};
    if (covering::legal(p.from, Dtype::f64) && covering::legal(p.to, Dtype::f64)) pairs.push_back(p);
  }
  return pairs;
}

// sum(w * y * y) of the value after the move.
DTensor loss(const DTensor& x, const Entries& to, const DTensor& weights) {
  const DTensor y = x.redistribute(Placements(to));
  return sum(mul(mul(y, y), weights));
}

bool has_partial(const Placements& placements) {
  for (const AxisPlacement& e : placements.entries())
    if (e.placement.is_partial()) return true;
  return false;
}

std::string fault_of(const Pair& pair, Whole whole, const DeviceMesh& mesh, const Shape& coordinates, const DTensor& weights) {
  const auto make = [&](const Whole& value) {
    return from_local(placed::part(value, mesh, pair.from, coordinates), mesh, Placements(pair.from), {.shape = value.shape});
  };
  const DTensor x = make(whole);
  x.set_requires_grad();
  loss(x, pair.to, weights).backward();
  const DTensor grad = x.grad();
  if (!grad) return "no gradient";
  if (has_partial(grad.placements())) return "the gradient is " + to_string(grad);
  const auto given = placed::numbers(grad.full_tensor().local());
  for (std::size_t i = 0; i < given.size(); ++i) {
    const double at = whole.values[i], step = 1.0 / 1024;
    std::array<double, 2> ends{};
    for (int side : {0, 1}) {
      whole.values[i] = at + (side == 0 ? -step : step);
      ends[static_cast<std::size_t>(side)] = loss(make(whole), pair.to, weights).item();
    }
    whole.values[i] = at;
    const double expected = (ends[1] - ends[0]) / (2 * step);
    if (std::abs(given[i] - expected) > 1e-6 * (1 + std::abs(expected)))
      return "element " + std::to_string(i) + ": " + std::to_string(given[i]) + ", central difference " + std::to_string(expected);
  }
  return {};
}

}  // namespace

TEST_CASE("the gradient of a redistribution is that of its global value, Partial at both ends and uneven") {
  int count = 0;
  for (const auto& [sizes, shape] :
       std::vector<std::pair<std::vector<int>, Shape>>{{{2}, {3}}, {{3}, {2, 2}}, {{2, 2}, {5}}, {{2, 2}, {3, 2}}, {{3, 2}, {4}}}) {
    const auto pairs = sample(sizes, shape, 40);
    int ranks = 1;
    std::vector<MeshAxis> axes;
    for (std::size_t a = 0; a < sizes.size(); ++a) axes.push_back({covering::axis_names()[a], sizes[a]}), ranks *= sizes[a];
    const auto faults = collect({.ranks = ranks, .threads_per_rank = 1}, [&, &shape = shape](World& world) {
      const DeviceMesh mesh = world.mesh(axes);
      const Shape coordinates = testing::positions(mesh)[static_cast<std::size_t>(world.rank())];
      const DTensor weights =
          distribute(placed::tensor_of(placed::make_whole(shape, Dtype::f64, 3).values, shape, Dtype::f64), mesh, {}, {.source = Source::every_rank});
      std::string found;
      for (const Pair& pair : pairs)
        if (const std::string fault = fault_of(pair, placed::make_whole(shape, Dtype::f64, kSeed), mesh, coordinates, weights);
            !fault.empty() && found.empty())
          found = covering::text(pair.from) + " -> " + covering::text(pair.to) + ": " + fault;
      return found;
    });
    for (const std::string& fault : faults) CHECK(fault == "");
    count += static_cast<int>(pairs.size());
  }
  std::printf("gradients of %d pairs, seed %llu\n", count, static_cast<unsigned long long>(kSeed));
  CHECK_EQ(count, 200);
}
