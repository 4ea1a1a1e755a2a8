// SPDX-License-Identifier: Apache-2.0
// Every ordered pair of layouts as pure algebra: routes are followed on simulated ranks, and what they state is counted. Without DTENSOR_PAIRS=all a
// sample.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>

#include "dtensor/error.h"
#include "mesh/mesh_data.h"
#include "redistribute/covering.h"
#include "redistribute/plan/checked_route.h"

using namespace checked;
using dtensor::Dtype;
using dtensor::redistribute::find_route;
using dtensor::redistribute::reference_topology;
using simulated::all_layouts;
using simulated::text;

namespace {

constexpr std::uint64_t kSeed = 20240611;
constexpr std::array<std::int64_t, 6> kSizes{0, 1, 2, 3, 5, 8};
constexpr std::array<ReduceOp, 5> kKinds{ReduceOp::sum, ReduceOp::avg, ReduceOp::min, ReduceOp::max, ReduceOp::product};

bool all_of_them() {
  const char* given = std::getenv("DTENSOR_PAIRS");
  return given != nullptr && std::string(given) == "all";
}

// Splits of every kind over each axis, and explicit sizes over both axes together.
std::vector<std::pair<Split, int>> splits_of(const std::vector<int>& mesh, const Shape& shape) {
  std::vector<std::pair<Split, int>> splits;
  const int axes = static_cast<int>(mesh.size());
  for (int a = 0; a < axes; ++a) {
    const int ranks = mesh[static_cast<std::size_t>(a)];
    for (std::int64_t pieces : {1, 2, 3}) splits.push_back({Split{{a}, pieces, {}}, -1});
    for (int d = 0; d < shape.ndim(); ++d) splits.push_back({Split{{a}, 1, covering::ragged_sizes(shape[d], ranks, false)}, d});
  }
  for (int d = 0; d < shape.ndim() && axes == 2; ++d)
    splits.push_back({Split{{1, 0}, 1, covering::ragged_sizes(shape[d], mesh[0] * mesh[1], false)}, d});
  return splits;
}

std::string check_pair(World& world, const LayoutRef& from, const LayoutRef& to, const Topology& topology = reference_topology()) {
  const auto route = find_route(from, to, world.shape(), Dtype::f32, topology);
  const std::string fault = fault_of(world, *route, from, to, topology, 4);
  return fault.empty() ? fault : text(*from) + " -> " + text(*to) + " " + dtensor::to_string(world.shape()) + ": " + fault;
}

// Every `step`-th pair, beginning at a place that depends on the seed.
std::size_t sweep(const std::vector<int>& mesh, const Shape& shape, int step, covering::Random& random) {
  World world(mesh, shape);
  const auto layouts = all_layouts(mesh, shape.ndim(), splits_of(mesh, shape), {kKinds.begin(), kKinds.end()});
  const std::size_t pairs = layouts.size() * layouts.size();
  const Topology bytes_are_dear{{}, {0, 0.01}, 1e6, 0};
  std::size_t checked = 0;
  for (std::size_t k = static_cast<std::size_t>(random.below(step)); k < pairs;
       k += step == 1 ? 1 : 1 + static_cast<std::size_t>(random.below(2 * step - 1))) {
    // By turns where launches and where bytes are dear: the latter has routes of several moves that communicate.
    const std::string fault =
        check_pair(world, layouts[k / layouts.size()], layouts[k % layouts.size()], checked % 2 == 0 ? reference_topology() : bytes_are_dear);
    if (!fault.empty()) FAIL_CHECK(fault);
    ++checked;
  }
  return checked;
}

LayoutRef layout_of(const dtensor::DeviceMesh& mesh, const Shape& shape, const std::vector<dtensor::AxisPlacement>& entries) {
  return dtensor::placements::make_layout(mesh, shape, Dtype::f32, dtensor::Placements(entries), "test");
}

}  // namespace

TEST_CASE("every route between layouts of up to two dimensions on two axes moves what it states to where it should be") {
  covering::Random random(kSeed);
  const bool all = all_of_them();
  std::size_t pairs = 0;
  for (const auto& mesh : std::vector<std::vector<int>>{{2, 2}, {3, 2}, {2, 3}, {4, 2}}) {
    pairs += sweep(mesh, {}, 1, random);
    for (std::int64_t n : kSizes) pairs += sweep(mesh, {n}, all ? 1 : 20, random);
    for (std::int64_t m : kSizes)
      for (std::int64_t n : kSizes) pairs += sweep(mesh, {m, n}, all ? 1 : 400, random);
  }
  std::printf("pairs %zu, seed %llu, %s\n", pairs, static_cast<unsigned long long>(kSeed), all ? "all" : "a sample");
  CHECK_GT(pairs, 2000);
}

TEST_CASE("routes of three dimensions, and on three axes, are right for every two choices together") {
  std::size_t rows = 0, pairs = 0, unreached = 0;
  std::uint64_t seed = kSeed;
  for (const auto& mesh : std::vector<std::vector<int>>{{2, 2}, {3, 2}, {4, 2}, {2, 2, 2}}) {
    const std::size_t axes = mesh.size();
    for (int ndim : {1, 2, 3}) {
      if (axes < 3 && ndim < 3) continue;
      std::vector<int> levels(2 * axes, covering::choice_count(ndim));
      levels.insert(levels.end(), 2, covering::order_count(axes));
      levels.insert(levels.end(), static_cast<std::size_t>(ndim), static_cast<int>(kSizes.size()));
      const auto shape_of = [&](const covering::Row& row) {
        Shape shape;
        for (std::size_t d = 2 * axes + 2; d < row.size(); ++d) shape.push_back(kSizes[static_cast<std::size_t>(row[d])]);
        return shape;
      };
      const auto entries = [&](const covering::Row& row, std::size_t end) {
        return covering::entries_of(mesh, shape_of(row), row.data() + end * axes, row[2 * axes + end]);
      };
      const auto array = covering::cover(
          levels,
          [&](const covering::Row& row) { return covering::legal(entries(row, 0), Dtype::f32) && covering::legal(entries(row, 1), Dtype::f32); },
          ++seed);
      const std::size_t step = all_of_them() ? 1 : 5;
      std::vector<dtensor::MeshAxis> named;
      for (std::size_t a = 0; a < axes; ++a) named.push_back({covering::axis_names()[a], mesh[a]});
      const dtensor::DeviceMesh device_mesh = dtensor::mesh::make_mesh(1, 64, named, {});
      for (std::size_t k = 0; k < array.rows.size(); k += step) {
        const Shape shape = shape_of(array.rows[k]);
        World world(mesh, shape);
        const std::string fault =
            check_pair(world, layout_of(device_mesh, shape, entries(array.rows[k], 0)), layout_of(device_mesh, shape, entries(array.rows[k], 1)));
        if (!fault.empty()) FAIL_CHECK(fault);
        ++rows;
      }
      pairs += array.pairs;
      unreached += array.unreached;
    }
  }
  std::printf("rows %zu cover %zu pairs of choices (%zu in no legal row), first seed %llu\n", rows, pairs - unreached, unreached,
              static_cast<unsigned long long>(kSeed + 1));
  CHECK_GT(rows, 500);
}
