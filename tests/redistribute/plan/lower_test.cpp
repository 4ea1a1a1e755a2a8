// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "redistribute/plan/simulated.h"

using namespace simulated;
using dtensor::Dtype;
using dtensor::redistribute::find_route;

namespace {

const Split kShard{{0}, 1, {}};

// Layouts of one axis of `ranks` over one dimension of `n`.
std::vector<LayoutRef> one_axis_layouts(int ranks, std::int64_t n) {
  std::vector<std::pair<Split, int>> splits{{kShard, -1}, {{{0}, 2, {}}, -1}, {{{0}, 3, {}}, -1}};
  std::vector<std::int64_t> front(static_cast<std::size_t>(ranks), 0), spread(static_cast<std::size_t>(ranks), 0);
  front[0] = n;
  for (std::int64_t i = 0; i < n; ++i) ++spread[static_cast<std::size_t>((i * i) % ranks)];
  splits.push_back({{{0}, 1, front}, 0});
  splits.push_back({{{0}, 1, spread}, 0});
  return all_layouts({ranks}, 1, splits, {ReduceOp::sum});
}

Move direct(const LayoutRef& from, const LayoutRef& to) {
  Move m;
  m.kind = MoveKind::send_recv;
  for (std::size_t a = 0; a < from->mesh_sizes.size(); ++a)
    if (!from->partial[a] || from->partial[a] != to->partial[a]) m.axes.push_back(static_cast<int>(a));
  m.from = from;
  m.to = to;
  return m;
}

void check_direct(const LayoutRef& from, const LayoutRef& to, const Shape& shape) {
  const std::string what = text(*from) + " -> " + text(*to) + " " + dtensor::to_string(shape);
  CAPTURE(what);
  const auto in = fill(*from, shape);
  const Carried out = carry(direct(from, to), shape, in);
  REQUIRE_EQ(out.fault, "");
  const Value before = value_of(*from, shape, in), after = value_of(*to, shape, out.ranks);
  REQUIRE(before.consistent);
  REQUIRE(after.consistent);
  REQUIRE(before.elements == after.elements);
}

}  // namespace

TEST_CASE("the pieces of one axis carry every layout into every other, each element once and in order") {
  int pairs = 0;
  for (int ranks : {1, 2, 3, 4, 6, 8})
    for (std::int64_t n : {0, 1, 2, 3, 5, 7, 8, 9}) {
      const auto layouts = one_axis_layouts(ranks, n);
      for (const auto& from : layouts)
        for (const auto& to : layouts) {
          if (to->has_partial()) continue;
          check_direct(from, to, {n});
          ++pairs;
        }
    }
  CHECK_GT(pairs, 1000);
}

TEST_CASE("the pieces of two and three axes carry layouts into others in one step") {
  struct Case {
    std::vector<int> mesh;
    Shape shape;
    std::vector<std::pair<Split, int>> extra;
  };
  const std::vector<Case> cases{
      {{2, 2}, {8, 6}, {{{{0}, 2, {}}, 0}}},
      {{2, 3}, {5, 7}, {{{{1}, 3, {}}, 1}}},
      {{3, 2}, {7}, {{{{0, 1}, 1, {2, 0, 1, 3, 0, 1}}, 0}, {{{1}, 1, {4, 3}}, 0}}},
      {{2, 2, 2}, {9}, {{{{1}, 2, {}}, 0}}},
      {{2, 2, 2}, {3, 4, 2}, {}},
  };
  for (const Case& c : cases) {
    auto splits = ceil_splits(c.mesh);
    splits.insert(splits.end(), c.extra.begin(), c.extra.end());
    const auto layouts = all_layouts(c.mesh, c.shape.ndim(), splits, {ReduceOp::sum});
    // Every pair of a small set; of a large one a sample that meets each layout as source and target.
    const std::size_t step = layouts.size() > 60 ? 17 : 1;
    for (std::size_t i = 0; i < layouts.size(); ++i)
      for (std::size_t j = i % step; j < layouts.size(); j += step) {
        bool keeps = true;
        for (std::size_t a = 0; a < c.mesh.size(); ++a) keeps = keeps && (!layouts[j]->partial[a] || layouts[i]->partial[a]);
        if (keeps) check_direct(layouts[i], layouts[j], c.shape);
      }
  }
}

TEST_CASE("a target that becomes Partial gets the value once") {
  const auto from = layout({2, 2}, {{Split{{0}, 1, {}}}});
  for (ReduceOp op : {ReduceOp::sum, ReduceOp::max}) {
    const auto to = layout({2, 2}, {{}}, {{1, op}});
    const auto in = fill(*from, {6});
    Carried out = carry(direct(from, to), {6}, in);
    REQUIRE_EQ(out.fault, "");
    for (Local& local : out.ranks)
      for (Number& x : local)
        if (x == kUnset) x = neutral(op);
    CHECK(value_of(*to, {6}, out.ranks).elements == value_of(*from, {6}, in).elements);
  }
}

TEST_CASE("a receiver takes a replicated element from itself, and otherwise replicas share the sending") {
  const auto from = layout({2, 2}, {{Split{{1}, 1, {}}}, {}});  // replicas along axis 0
  const auto to = layout({2, 2}, {{}, {Split{{0}, 1, {}}}});
  Move m = direct(from, to);
  for (int r = 0; r < 4; ++r) {
    std::int64_t own = 0, sent = 0;
    for (const Piece& p : lower(m, {4, 4}, coordinates_of({2, 2}, r)).sends) (p.peer == r ? own : sent) += p.sizes.numel();
    CHECK_EQ(own, 4);
    CHECK_EQ(sent, 4);
  }
}

TEST_CASE("evenly spaced runs make one box") {
  const auto from = layout({2}, {{Split{{0}, 4, {}}}});
  const auto to = layout({2}, {{}});
  const Transfer t = lower(direct(from, to), {16}, {0});
  REQUIRE_EQ(t.receives.size(), 2);
  CHECK_EQ(t.receives[1].sizes, Shape{4, 2});
  CHECK_EQ(t.receives[1].strides, Shape{4, 1});
  CHECK_EQ(t.receives[1].offset, 2);
}

TEST_CASE("a slice names the local runs of the target") {
  const auto from = layout({2, 2}, {{Split{{0}, 1, {}}}});
  const auto to = layout({2, 2}, {{Split{{0}, 1, {}}, Split{{1}, 2, {}}}});
  const auto runs = local_runs(*from, *to, {8}, {1, 1});
  REQUIRE_EQ(runs.size(), 1);
  CHECK(runs[0] == std::vector<Run>{{1, 1}, {3, 1}});
}
