// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <map>
#include <thread>

#include "dtensor/error.h"
#include "placements/enumerate.h"

using namespace dtensor;
using namespace dtensor::placements;
using namespace dtensor::testing;

namespace {

Layout sharded(int ranks) { return {{ranks}, {{{{0}, 1, {}}}, {}}, {std::nullopt}, 0}; }

std::string error_of(Layout layout) {
  try {
    intern(std::move(layout));
  } catch (const InternalError& error) { return error.what(); }
  return "no error";
}

}  // namespace

TEST_CASE("equal layouts are one pointer, on every thread, and go with their last reference") {
  LayoutRef first = intern(sharded(1000));
  CHECK(first == intern(sharded(1000)));
  CHECK(first != intern(sharded(1001)));
  LayoutRef other;
  std::thread([&] { other = intern(sharded(1000)); }).join();
  CHECK(first == other);
  const std::weak_ptr<const Layout> watch = first;
  first.reset();
  other.reset();
  CHECK(watch.expired());
  CHECK(intern(sharded(1000))->mesh_sizes == std::vector<int>{1000});
}

TEST_CASE("the replicated layout is the one that is made by hand, asked for once or again") {
  for (const auto& sizes : std::vector<std::vector<int>>{{1}, {2}, {2, 3}, {3, 2}, {2, 2, 2}})
    for (int ndim = 0; ndim < 5; ++ndim) {
      const LayoutRef first = replicated(sizes, ndim), again = replicated(sizes, ndim);
      CHECK(first == again);
      CHECK(first == intern({sizes, std::vector<Splits>(static_cast<std::size_t>(ndim)), std::vector<std::optional<ReduceOp>>(sizes.size()), 0}));
      CHECK(first->ndim() == ndim);
      CHECK(first->mesh_sizes == sizes);
    }
}

TEST_CASE("threads that make and drop layouts at once agree on the pointers") {
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 3000; ++i) {
        const LayoutRef a = intern(sharded(2 + i % 5));
        if (intern(sharded(2 + i % 5)) != a || a->mesh_sizes[0] != 2 + i % 5) ++wrong[t];
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
}

TEST_CASE("different layouts have different hashes, and a hash depends on the values alone") {
  std::map<std::uint64_t, LayoutRef> by_hash;
  for (const auto& sizes : std::vector<std::vector<int>>{{2}, {3}, {2, 3}, {2, 2, 2}})
    for (const Shape& shape : {Shape{8}, Shape{8, 5}})
      for_each_placement(sizes, shape, [&](const std::vector<AxisPlacement>& entries) {
        const LayoutRef layout = make_layout(mesh_of(sizes), shape, Dtype::f32, Placements(entries), "test");
        const auto [found, fresh] = by_hash.emplace(layout->hash, layout);
        if (!fresh && found->second != layout) FAIL_CHECK("one hash for two layouts: ", to_string(*layout, mesh_of(sizes).names()));
      });
  CHECK(by_hash.size() > 5000);
  // A number of this version: ranks of one job compare it.
  CHECK(replicated(std::vector<int>{2}, 1)->hash == intern({{2}, {{}}, {std::nullopt}, 99})->hash);
}

TEST_CASE("queries by axis tell splits, Partial and Replicate apart") {
  const LayoutRef layout = make_layout(mesh_of({2, 2, 2}), {8, 8}, Dtype::f32, {Shard(1), Replicate(), Partial()}, "test");
  CHECK(layout->dim_of(0) == 1);
  CHECK(layout->dim_of(1) == -1);
  CHECK(layout->has_partial());
  CHECK_FALSE(layout->is_replicated());
  CHECK(replicated(std::vector<int>{2, 2}, 3)->is_replicated());
  CHECK_FALSE(make_layout(mesh_of({2}), {8}, Dtype::f32, {Shard(0)}, "test")->is_replicated());
}

TEST_CASE("a layout against the invariants is a defect that is named") {
  const std::optional<ReduceOp> none;
  CHECK(error_of({{2}, {{{{0}, 1, {}}}, {{{0}, 1, {}}}}, {none}, 0}) == "layout: a mesh axis used twice; report this defect");
  CHECK(error_of({{2}, {{{{0}, 1, {}}}}, {ReduceOp::sum}, 0}) == "layout: a mesh axis used twice; report this defect");
  CHECK(error_of({{2}, {{{{1}, 1, {}}}}, {none}, 0}) == "layout: a split over an axis that the mesh lacks; report this defect");
  CHECK(error_of({{2, 2}, {{{{0, 1}, 1, {}}}}, {none, none}, 0}) == "layout: a split over several axes without explicit sizes; report this defect");
  CHECK(error_of({{2, 2}, {{{{0}, 1, {}}, {{1}, 1, {4, 4}}}}, {none, none}, 0}) ==
        "layout: explicit sizes that are not the first split of a dimension; report this defect");
  CHECK(error_of({{2}, {{{{0}, 1, {8}}}}, {none}, 0}) == "layout: explicit sizes that are not one per rank; report this defect");
  CHECK(error_of({{2, 2}, {{}}, {ReduceOp::sum, ReduceOp::max}, 0}) == "layout: Partial kinds that do not commute; report this defect");
  CHECK(error_of({{2}, {{{{0}, 0, {}}}}, {none}, 0}) == "layout: a split of less than one piece; report this defect");
}
