// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <map>

#include "placements/enumerate.h"

using namespace dtensor;
using namespace dtensor::placements;
using namespace dtensor::testing;

namespace {

std::string name_of(const DeviceMesh& mesh, const Shape& shape, const Layout& layout) {
  return to_string(Dtype::f32, shape, layout, mesh.names()) + " on " + to_string(mesh);
}

bool runs_are_maximal(const std::vector<Run>& runs) {
  for (std::size_t i = 0; i < runs.size(); ++i)
    if (runs[i].length <= 0 || (i > 0 && runs[i].begin <= runs[i - 1].begin + runs[i - 1].length)) return false;
  return true;
}

// Everything that owned.cpp computes for one layout, against the lists of indices.
bool agrees(const DeviceMesh& mesh, const std::vector<AxisPlacement>& entries, const Shape& shape, const Layout& layout) {
  Shape worst = Shape::filled(shape.ndim(), 0);
  std::map<std::vector<std::int64_t>, std::vector<int>> replicas;  // how often each element is owned, by coordinates of the axes that split nothing
  for (const Shape& at : positions(mesh)) {
    std::vector<Indices> owned;
    for (int dim = 0; dim < shape.ndim(); ++dim) {
      owned.push_back(simulate(mesh, entries, dim, shape[dim], at));
      const auto size = static_cast<std::int64_t>(owned.back().size());
      const auto runs = owned_runs(layout, dim, shape[dim], at);
      if (expand(runs) != owned.back() || !runs_are_maximal(runs)) return false;
      if (local_size(layout, dim, shape[dim], at) != size || local_shape(layout, shape, at)[dim] != size) return false;
      if (local_offset(layout, shape, at)[dim] != (size == 0 ? shape[dim] : owned.back().front())) return false;
      worst[dim] = std::max(worst[dim], size);
    }
    std::vector<std::int64_t> key;
    for (int axis = 0; axis < mesh.ndim(); ++axis) key.push_back(layout.dim_of(axis) >= 0 ? -1 : at[axis]);
    auto& counts = replicas[key];
    counts.resize(static_cast<std::size_t>(shape.numel()), 0);
    for (std::int64_t row : owned[0])
      for (std::int64_t column = 0; column < (shape.ndim() == 2 ? static_cast<std::int64_t>(owned[1].size()) : 1); ++column)
        ++counts[static_cast<std::size_t>(shape.ndim() == 2 ? row * shape[1] + owned[1][static_cast<std::size_t>(column)] : row)];
  }
  for (const auto& [key, counts] : replicas)
    if (std::any_of(counts.begin(), counts.end(), [](int count) { return count != 1; })) return false;
  return worst_local_shape(layout, shape) == worst;
}

void check_all(const std::vector<int>& sizes, const Shape& shape) {
  const DeviceMesh mesh = mesh_of(sizes);
  std::set<LayoutRef> seen;
  for_each_placement(sizes, shape, [&](const std::vector<AxisPlacement>& entries) {
    const LayoutRef layout = make_layout(mesh, shape, Dtype::f32, Placements(entries), "test");
    if (!seen.insert(layout).second) return;
    if (!agrees(mesh, entries, shape, *layout)) FAIL_CHECK(name_of(mesh, shape, *layout));
  });
  CHECK(seen.size() >= 2 + 2 * shape.size());
}

Shape coordinate(std::int64_t a) { return Shape{a}; }

}  // namespace

TEST_CASE("a dim of 7 over 4 ranks splits 2 2 2 1, and 5 over 2 x 2 splits 2 1 1 1") {
  const DeviceMesh line = mesh_of({4}), square = mesh_of({2, 2});
  const LayoutRef a = make_layout(line, {7}, Dtype::f32, {Shard(0)}, "test");
  const LayoutRef b = make_layout(square, {5}, Dtype::f32, {Shard(0), Shard(0)}, "test");
  std::vector<std::int64_t> lengths;
  for (std::int64_t r = 0; r < 4; ++r) lengths.push_back(local_size(*a, 0, 7, coordinate(r)));
  for (const Shape& at : positions(square)) lengths.push_back(local_size(*b, 0, 5, at));
  CHECK(lengths == std::vector<std::int64_t>{2, 2, 2, 1, 2, 1, 1, 1});
}

TEST_CASE("9 in 2 pieces over 4 ranks gives 0 1 5, 2 3 6, 4 7 and 8") {
  const LayoutRef layout = make_layout(mesh_of({4}), {9}, Dtype::f32, {StridedShard(0, 2)}, "test");
  CHECK(owned_runs(*layout, 0, 9, coordinate(0)) == std::vector<Run>{{0, 2}, {5, 1}});
  CHECK(owned_runs(*layout, 0, 9, coordinate(1)) == std::vector<Run>{{2, 2}, {6, 1}});
  CHECK(owned_runs(*layout, 0, 9, coordinate(2)) == std::vector<Run>{{4, 1}, {7, 1}});
  CHECK(owned_runs(*layout, 0, 9, coordinate(3)) == std::vector<Run>{{8, 1}});
}

TEST_CASE("FSDP over TP splits over tp first: 7 over dp 3 x tp 2 leaves rank (2, 0) empty at offset 7") {
  const DeviceMesh mesh = mesh_of({3, 2});
  const LayoutRef layout = make_layout(mesh, {7}, Dtype::f32, {{"tp", Shard(0)}, {"dp", Shard(0)}}, "test");
  CHECK(to_string(*layout, mesh.names()) == "{tp: S(0), dp: S(0)}");
  CHECK(owned_runs(*layout, 0, 7, {0, 1}) == std::vector<Run>{{4, 1}});
  CHECK(owned_runs(*layout, 0, 7, {1, 0}) == std::vector<Run>{{2, 2}});
  CHECK(owned_runs(*layout, 0, 7, {2, 0}).empty());
  CHECK(local_offset(*layout, {7}, {2, 0}) == Shape{7});
  CHECK(local_offset(*layout, {0}, {2, 0}) == Shape{0});
}

TEST_CASE("every rank owns what a simulation by element gives, and each replica has every element once: 1-D tensors") {
  for (const auto& sizes : meshes())
    for (std::int64_t n = 0; n <= 17; ++n) check_all(sizes, {n});
}

TEST_CASE("every rank owns what a simulation by element gives, and each replica has every element once: 2-D tensors") {
  for (const auto& sizes : meshes()) {
    // Dimensions are independent, so on three axes a few shapes do what all would.
    for (std::int64_t n = 0; n <= 17; n += sizes.size() == 3 ? 8 : 1) check_all(sizes, {n, (n * 7 + 3) % 18});
  }
}

TEST_CASE("sizes of billions cost no more than small ones") {
  const DeviceMesh mesh = mesh_of({2, 4});
  const std::int64_t n = 3'000'000'000;
  const LayoutRef layout = make_layout(mesh, {n}, Dtype::f32, {{"tp", StridedShard(0, 3)}, {"dp", Shard(0)}}, "test");
  CHECK(owned_runs(*layout, 0, n, {1, 2}) == std::vector<Run>{{1'625'000'000, 125'000'000}, {2'500'000'000, 250'000'000}});
  CHECK(worst_local_shape(*layout, {n}) == Shape{375'000'000});
}
