// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "placements/enumerate.h"

using namespace dtensor;
using namespace dtensor::placements;
using namespace dtensor::testing;

namespace {

struct Case {
  LayoutRef layout;
  std::vector<Indices> owned;  // by mesh position and dimension
};

std::vector<Case> cases(const std::vector<int>& sizes, const Shape& shape) {
  const DeviceMesh mesh = mesh_of(sizes);
  std::vector<Case> list;
  std::set<LayoutRef> seen;
  for_each_placement(sizes, shape, [&](const std::vector<AxisPlacement>& entries) {
    Case one{make_layout(mesh, shape, Dtype::f32, Placements(entries), "test"), {}};
    if (!seen.insert(one.layout).second) return;
    for (const Shape& at : positions(mesh))
      for (int dim = 0; dim < shape.ndim(); ++dim) one.owned.push_back(simulate(mesh, entries, dim, shape[dim], at));
    list.push_back(std::move(one));
  });
  return list;
}

bool same_partials(const Layout& a, const Layout& b) {
  for (std::size_t axis = 0; axis < a.mesh_sizes.size(); ++axis)
    if (a.mesh_sizes[axis] > 1 && a.partial[axis] != b.partial[axis]) return false;
  return true;
}

}  // namespace

TEST_CASE("two layouts are equivalent exactly when every rank owns the same indices in the same order") {
  int equal = 0, different = 0;
  for (const auto& sizes : std::vector<std::vector<int>>{{1}, {2}, {3}, {2, 2}, {1, 2}, {2, 3}})
    for (const Shape& shape : {Shape{0}, Shape{1}, Shape{4}, Shape{5}, Shape{8}, Shape{12}, Shape{4, 6}, Shape{1, 3}}) {
      const auto list = cases(sizes, shape);
      for (const Case& a : list)
        for (const Case& b : list) {
          const bool expected = a.owned == b.owned && same_partials(*a.layout, *b.layout);
          ++(expected ? equal : different);
          if (equivalent(*a.layout, *b.layout, shape) != expected)
            FAIL_CHECK(to_string(*a.layout, mesh_of(sizes).names()), " and ", to_string(*b.layout, mesh_of(sizes).names()), " for ", to_string(shape),
                       " on ", to_string(mesh_of(sizes)));
        }
    }
  CHECK(equal > 1000);
  CHECK(different > 1000);
}

TEST_CASE("a StridedShard and an explicit order are equivalent where sizes divide, and not for 7 over 3 x 2") {
  const DeviceMesh mesh = mesh_of({3, 2});
  for (const auto& [n, expected] : std::vector<std::pair<std::int64_t, bool>>{{12, true}, {7, false}}) {
    const LayoutRef order = make_layout(mesh, {n}, Dtype::f32, {{"tp", Shard(0)}, {"dp", Shard(0)}}, "test");
    const LayoutRef strided = make_layout(mesh, {n}, Dtype::f32, {StridedShard(0, 2), Shard(0)}, "test");
    CHECK(order != strided);
    CHECK(equivalent(*order, *strided, {n}) == expected);
  }
}

TEST_CASE("the normal form is equivalent, and has nothing on axes of one rank") {
  for (const auto& sizes : std::vector<std::vector<int>>{{1}, {1, 2}, {2, 1}, {1, 1}, {2, 1, 2}})
    for (const Case& one : cases(sizes, {5, 4})) {
      const LayoutRef normal = normalized(one.layout);
      CHECK(equivalent(*one.layout, *normal, {5, 4}));
      CHECK(normalized(normal) == normal);
      for (int axis = 0; axis < normal->mesh_ndim(); ++axis)
        if (sizes[static_cast<std::size_t>(axis)] == 1) {
          CHECK(normal->dim_of(axis) == -1);
          CHECK_FALSE(normal->partial[static_cast<std::size_t>(axis)].has_value());
        }
    }
  const LayoutRef layout = make_layout(mesh_of({2, 2}), {5, 4}, Dtype::f32, {Shard(0), Partial()}, "test");
  CHECK(normalized(layout) == layout);
}
