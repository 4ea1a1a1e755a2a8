// SPDX-License-Identifier: Apache-2.0
// Moves between meshes as pure numbers: every rank gets what it needs once, from an owner, and no route gets it with fewer bytes.
#include "redistribute/plan/between.h"

#include <doctest/doctest.h>

#include <numeric>
#include <set>

#include "dtensor/error.h"
#include "dtensor/plan.h"
#include "mesh/mesh_data.h"
#include "redistribute/plan/simulated.h"

using namespace simulated;
using dtensor::Dtype;
using dtensor::redistribute::Between;
using dtensor::redistribute::End;
using dtensor::redistribute::find_route_between;
using dtensor::redistribute::Received;
using dtensor::redistribute::RouteRef;

namespace {

struct Grid {
  std::vector<int> sizes, ranks;
};

// Meshes over eight ranks: equal, sub, super, disjoint and overlapping to each other, in several orders.
const std::vector<Grid> kGrids{{{1}, {0}},
                               {{1}, {6}},
                               {{2}, {0, 1}},
                               {{2}, {5, 3}},
                               {{3}, {0, 1, 2}},
                               {{4}, {0, 1, 2, 3}},
                               {{4}, {7, 2, 5, 3}},
                               {{2, 2}, {0, 1, 2, 3}},
                               {{2, 2}, {3, 1, 2, 0}},
                               {{2, 2}, {4, 5, 6, 7}},
                               {{3, 2}, {0, 1, 2, 3, 4, 5}},
                               {{3, 2}, {7, 4, 2, 0, 3, 6}}};

std::vector<LayoutRef> layouts_of(const Grid& grid, const Shape& shape, const std::vector<ReduceOp>& ops) {
  auto splits = ceil_splits(grid.sizes);
  for (std::size_t a = 0; a < grid.sizes.size(); ++a) {
    if (shape.ndim() != 1) break;
    splits.push_back({Split{{static_cast<int>(a)}, 2, {}}, 0});
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(grid.sizes[a]), 0);
    for (std::int64_t i = 0; i < shape[0]; ++i) ++sizes[static_cast<std::size_t>(i * i % grid.sizes[a])];
    splits.push_back({Split{{static_cast<int>(a)}, 1, sizes}, 0});
  }
  return all_layouts(grid.sizes, shape.ndim(), splits, ops);
}

std::string text(const End& e) {
  std::string ranks;
  for (int r : e.ranks) ranks += " " + std::to_string(r);
  return simulated::text(*e.layout) + " on" + ranks;
}

Reducing reducing(const Layout& from) {
  Reducing r;
  for (std::size_t a = 0; a < from.partial.size(); ++a) {
    if (!from.partial[a] || from.mesh_sizes[a] == 1) continue;
    r.any = true;
    if (*from.partial[a] == ReduceOp::avg) r.scale = times(r.scale, inverse(static_cast<Number>(from.mesh_sizes[a])));
    else r.op = *from.partial[a];
  }
  return r;
}

// Carries the pieces between the ranks of both meshes. `in` and the result are by index in the mesh.
Carried carry_between(const End& from, const End& to, const Shape& shape, const Between& b, const std::vector<Local>& in) {
  Carried out;
  std::map<int, Transfer> transfers;
  std::map<int, std::size_t> source, place;
  for (std::size_t i = 0; i < from.ranks.size(); ++i) source[from.ranks[i]] = i;
  for (std::size_t i = 0; i < b.group().size(); ++i) place[b.group()[i]] = i;
  std::map<std::pair<int, int>, std::vector<const Piece*>> sent;
  for (int r : b.group()) transfers[r] = b.transfer(r);
  for (int r : b.group())
    for (const Piece& p : transfers[r].sends) sent[{r, b.group()[static_cast<std::size_t>(p.peer)]}].push_back(&p);
  const Reducing reduce = reducing(*from.layout);
  std::map<std::pair<int, int>, std::size_t> taken;
  for (std::size_t i = 0; i < to.ranks.size(); ++i) {
    const int r = to.ranks[i];
    Local& local = out.ranks.emplace_back(owned(*to.layout, shape, coordinates_of(to.layout->mesh_sizes, static_cast<int>(i))).size(), kUnset);
    const Piece* last = nullptr;
    std::int64_t received = 0;
    for (const Piece& p : transfers[r].receives) {
      const int peer = b.group()[static_cast<std::size_t>(p.peer)];
      auto& queue = sent[{peer, r}];
      const std::size_t k = taken[{peer, r}]++;
      if (k >= queue.size() || !(queue[k]->sizes == p.sizes)) {
        out.fault = "a receive without its send";
        return out;
      }
      const bool same_box = last != nullptr && last->offset == p.offset && last->sizes == p.sizes && last->strides == p.strides;
      if (same_box && last->peer >= p.peer) out.fault = "contributions out of order";
      if (same_box && !b.combines()) out.fault = "an element received twice";
      last = &p;
      const auto at = offsets(*queue[k]), target = offsets(p);
      for (std::size_t n = 0; n < at.size(); ++n) {
        Number& cell = local.at(static_cast<std::size_t>(target[n]));
        const Number x = in[source.at(peer)].at(static_cast<std::size_t>(at[n]));
        if (cell != kUnset && !same_box) out.fault = "boxes overlap";
        cell = cell == kUnset ? x : combine(reduce.op, cell, x);
      }
      if (peer != r) received += p.sizes.numel();
    }
    if (received != b.received_by(r)) out.fault = "received is not what was counted";
    out.received_max = std::max(out.received_max, received);
    out.received_total += received;
    for (Number& x : local) {
      if (b.combines() && x != kUnset) x = times(x, reduce.scale);
      if (b.fill(r)) x = x == kUnset ? neutral(*b.fill(r)) : kUnset;
    }
  }
  for (const auto& [key, queue] : sent)
    if (taken[key] != queue.size()) out.fault = "a send without its receive";
  return out;
}

// What the ranks take from themselves when nothing is sent.
bool stays(const End& from, const End& to, const Shape& shape, const Between& b) {
  for (std::size_t i = 0; i < to.ranks.size(); ++i) {
    const auto wanted = owned(*to.layout, shape, coordinates_of(to.layout->mesh_sizes, static_cast<int>(i)));
    if (wanted.empty() || b.fill(to.ranks[i])) continue;
    const auto it = std::find(from.ranks.begin(), from.ranks.end(), to.ranks[i]);
    if (it == from.ranks.end()) return false;
    const Shape c = coordinates_of(from.layout->mesh_sizes, static_cast<int>(it - from.ranks.begin()));
    const auto had = owned(*from.layout, shape, c);
    const auto runs = b.local_runs(to.ranks[i]);
    std::vector<std::int64_t> at{0};
    for (int d = 0; d < shape.ndim(); ++d) {
      const std::int64_t size = dtensor::placements::local_size(*from.layout, d, shape[d], c);
      std::vector<std::int64_t> next;
      for (std::int64_t o : at)
        for (const Run& run : runs.at(static_cast<std::size_t>(d)))
          for (std::int64_t k = 0; k < run.length; ++k) next.push_back(o * size + run.begin + k);
      at = std::move(next);
    }
    std::vector<std::int64_t> got;
    for (std::int64_t k : at) got.push_back(had.at(static_cast<std::size_t>(k)));
    if (got != wanted) return false;
  }
  return true;
}

// The least without Partial: what the ranks of the target do not have.
Received lacking(const End& from, const End& to, const Shape& shape) {
  Received r;
  for (std::size_t i = 0; i < to.ranks.size(); ++i) {
    const auto wanted = owned(*to.layout, shape, coordinates_of(to.layout->mesh_sizes, static_cast<int>(i)));
    std::set<std::int64_t> had;
    const auto it = std::find(from.ranks.begin(), from.ranks.end(), to.ranks[i]);
    if (it != from.ranks.end()) {
      const auto list = owned(*from.layout, shape, coordinates_of(from.layout->mesh_sizes, static_cast<int>(it - from.ranks.begin())));
      had.insert(list.begin(), list.end());
    }
    const std::int64_t n = std::count_if(wanted.begin(), wanted.end(), [&](std::int64_t id) { return !had.contains(id); });
    r.max = std::max(r.max, n);
    r.total += n;
  }
  return r;
}

void check_between(const End& from, const End& to, const Shape& shape) {
  const std::string what = text(from) + " -> " + text(to) + " " + dtensor::to_string(shape);
  CAPTURE(what);
  const Between b(from, to, shape);
  const auto in = fill(*from.layout, shape);
  const Carried out = carry_between(from, to, shape, b, in);
  REQUIRE_EQ(out.fault, "");
  const Value before = value_of(*from.layout, shape, in), after = value_of(*to.layout, shape, out.ranks);
  REQUIRE(after.consistent);
  REQUIRE(before.elements == after.elements);
  REQUIRE_EQ(out.received_max, b.received().max);
  REQUIRE_EQ(out.received_total, b.received().total);
  REQUIRE_LE(b.least_received().total, out.received_total);
  REQUIRE_LE(b.least_received().max, out.received_max);
  if (!b.communicates()) REQUIRE(stays(from, to, shape, b));
  if (from.layout->has_partial() || to.layout->has_partial()) return;
  const Received least = lacking(from, to, shape);
  REQUIRE_EQ(out.received_total, least.total);
  REQUIRE_EQ(out.received_max, least.max);
  REQUIRE_EQ(b.least_received().total, least.total);
  REQUIRE_EQ(b.least_received().max, least.max);
}

void follow(const RouteRef& route, const End& from, const End& to, const Shape& shape, std::vector<Local>& locals, std::int64_t& received) {
  for (const Move& m : route->moves) {
    const Carried out = m.kind == MoveKind::transfer ? carry_between({m.from, from.ranks}, {m.to, to.ranks}, shape,
                                                                     Between({m.from, from.ranks}, {m.to, to.ranks}, shape), locals)
                                                     : apply(m, shape, locals);
    REQUIRE_EQ(out.fault, "");
    received += out.received_total;
    locals = out.ranks;
  }
}

}  // namespace

TEST_CASE("between any two meshes every index arrives once from an owner, and without Partial nothing more moves than is lacking") {
  std::int64_t pairs = 0;
  for (const Grid& source : kGrids)
    for (const Grid& target : kGrids) {
      for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{2}, Shape{5}, Shape{8}, Shape{13}, Shape{2, 5}, Shape{13, 8}}) {
        const auto from = layouts_of(source, shape, {ReduceOp::sum}), to = layouts_of(target, shape, {ReduceOp::sum});
        // All pairs of few layouts; of many a stride that meets each layout.
        const std::size_t step = std::max<std::size_t>(1, from.size() * to.size() / (shape.numel() > 50 ? 40 : 500));
        for (std::size_t i = 0; i < from.size() * to.size(); i += step, ++pairs)
          check_between({from[i / to.size()], source.ranks}, {to[i % to.size()], target.ranks}, shape);
      }
    }
  CHECK_GT(pairs, 100000);
}

TEST_CASE("every kind of Partial survives a change of mesh") {
  const std::vector<ReduceOp> ops{ReduceOp::sum, ReduceOp::avg, ReduceOp::min, ReduceOp::max, ReduceOp::product};
  for (const Grid& source : {kGrids[4], kGrids[7], kGrids[8]})
    for (const Grid& target : {kGrids[5], kGrids[8], kGrids[9], kGrids[10]}) {
      const auto from = layouts_of(source, {5}, ops), to = layouts_of(target, {5}, ops);
      const std::size_t step = std::max<std::size_t>(1, from.size() * to.size() / 1000);
      for (std::size_t i = 0; i < from.size() * to.size(); i += step)
        check_between({from[i / to.size()], source.ranks}, {to[i % to.size()], target.ranks}, {5});
    }
}

TEST_CASE("a route between meshes has the value, the bytes it counts, and no more than the transfer alone at its cost") {
  for (const Grid& source : {kGrids[2], kGrids[5], kGrids[8]})
    for (const Grid& target : {kGrids[3], kGrids[7], kGrids[9], kGrids[10]})
      for (const Shape& shape : {Shape{}, Shape{7}, Shape{4, 3}}) {
        const auto from = layouts_of(source, shape, {ReduceOp::sum}), to = layouts_of(target, shape, {ReduceOp::sum});
        const std::size_t step = std::max<std::size_t>(1, from.size() * to.size() / 100);
        for (std::size_t i = 0; i < from.size() * to.size(); i += step) {
          const End a{from[i / to.size()], source.ranks}, b{to[i % to.size()], target.ranks};
          CAPTURE(text(a));
          CAPTURE(text(b));
          // Without latency bytes decide, so that the ways around a Partial are taken.
          const dtensor::redistribute::Topology none{{}, {0, 10}, 20, 0};
          const dtensor::redistribute::LinksBetween free{none, none, {0, 10}};
          const RouteRef route = find_route_between(a, b, shape, Dtype::f64, free);
          auto locals = fill(*a.layout, shape);
          const Value before = value_of(*a.layout, shape, locals);
          std::int64_t received = 0;
          follow(route, a, b, shape, locals, received);
          const Value after = value_of(*b.layout, shape, locals);
          REQUIRE(after.consistent);
          REQUIRE(before.elements == after.elements);
          REQUIRE_EQ(received * 8, route->bytes_received_total);
          REQUIRE_LE(route->lower_bound_total, route->bytes_received_total);
          REQUIRE_LE(route->bytes_received_max, Between(a, b, shape).received().max * 8);
          if (!a.layout->has_partial() && !b.layout->has_partial()) REQUIRE_EQ(route->moves.size(), 1);
        }
      }
}

TEST_CASE("a large Partial that grows to replicas is reduced in parts first, near the lower bound") {
  const End from{layout({4}, {{}}, {{0, ReduceOp::sum}}), {0, 1, 2, 3}}, to{layout({8}, {{}}), {0, 1, 2, 3, 4, 5, 6, 7}};
  const RouteRef route = find_route_between(from, to, {1 << 20}, Dtype::f32);
  const std::int64_t bytes = 4 << 20;
  CHECK_EQ(Between(from, to, {1 << 20}).received().total * 4, (4 * 3 + 4 * 4) * bytes);
  CHECK_EQ(route->lower_bound_total, (3 + 7) * bytes);
  CHECK_LE(route->bytes_received_total, 11 * bytes);
  CHECK_EQ(find_route_between(from, to, {4}, Dtype::f32)->moves.size(), 1);
}

TEST_CASE("ranks that hold the same send the same amount") {
  const auto sent = [](const End& from, const End& to, const Shape& shape) {
    const Between b(from, to, shape);
    std::vector<std::int64_t> amounts;
    for (int r : from.ranks) {
      std::int64_t n = 0;
      for (const Piece& p : b.transfer(r).sends)
        if (b.group()[static_cast<std::size_t>(p.peer)] != r) n += p.sizes.numel();
      amounts.push_back(n);
    }
    return amounts;
  };
  // Two replicas of the whole to six new ranks.
  CHECK(sent({layout({2}, {{}}), {0, 1}}, {layout({8}, {{}}), {0, 1, 2, 3, 4, 5, 6, 7}}, {4}) == std::vector<std::int64_t>{12, 12});
  CHECK(sent({layout({2}, {{}}), {0, 1}}, {layout({4}, {{Split{{0}, 1, {}}}}), {4, 5, 6, 7}}, {8}) == std::vector<std::int64_t>{4, 4});
  // Two replicas of two parts; the receivers of one part do not alternate with those of the other in step.
  CHECK(sent({layout({2, 2}, {{Split{{0}, 1, {}}}}), {0, 1, 2, 3}}, {layout({2, 2}, {{Split{{1}, 1, {}}}}), {4, 5, 6, 7}}, {8}) ==
        std::vector<std::int64_t>{4, 4, 4, 4});
  // Only the first replica's ranks stay: the second sends its share.
  CHECK(sent({layout({2, 4}, {{Split{{1}, 1, {}}}}), {0, 1, 2, 3, 4, 5, 6, 7}}, {layout({4}, {{}}), {0, 1, 2, 3}}, {8}) ==
        std::vector<std::int64_t>{4, 4, 4, 4, 2, 2, 2, 2});
}

TEST_CASE("where all ranks stay the nearest replica sends") {
  const End from{layout({2, 2}, {{Split{{1}, 1, {}}}}), {0, 1, 2, 3}}, to{layout({4}, {{}}), {0, 1, 2, 3}};
  const Between b(from, to, {8});
  for (int r = 0; r < 4; ++r)
    for (const Piece& p : b.transfer(r).sends) CHECK_EQ(p.peer / 2, r / 2);
}

TEST_CASE("meshes of equal ownership exchange nothing, contributions included") {
  const Split s0{{0}, 1, {}}, s1{{1}, 1, {}};
  const std::vector<int> ranks{0, 1, 2, 3};
  CHECK_FALSE(Between({layout({4}, {{s0}}), ranks}, {layout({2, 2}, {{s0, s1}}), ranks}, {8}).communicates());
  CHECK_FALSE(Between({layout({4}, {{}}, {{0, ReduceOp::sum}}), ranks}, {layout({2, 2}, {{}}, {{0, ReduceOp::sum}, {1, ReduceOp::sum}}), ranks}, {8})
                  .communicates());
  CHECK_FALSE(Between({layout({4}, {{}}), ranks}, {layout({2, 2}, {{s1}}), {3, 1, 0, 2}}, {8}).communicates());
  CHECK(Between({layout({4}, {{s0}}), ranks}, {layout({2, 2}, {{s0, s1}}), {3, 1, 0, 2}}, {8}).communicates());
}

TEST_CASE("a plan between meshes prints the ranks, the transfer and the axes of both") {
  const auto mesh = [](std::vector<dtensor::MeshAxis> axes, std::vector<int> ranks) { return dtensor::mesh::make_mesh(1, 8, axes, ranks); };
  const auto dp = mesh({{"dp", 4}}, {0, 1, 2, 3}), all = mesh({{"a", 2}, {"b", 4}}, {});
  using namespace dtensor;
  CHECK_EQ(to_string(make_plan(dp, {64}, Dtype::f32, {Shard(0)}, all, {Replicate(), Shard(0)})),
           "f32[64]{dp: S(0)} on Mesh(dp=4) -> {a: R, b: S(0)} on Mesh(a=2, b=4)\n"
           "  {dp: S(0)} -> {a: R, b: S(0)}: transfer 64 B\n"
           "  1 launch, received 64 B on the worst rank, 256 B on all (lower bound 64 B, 256 B; met), peak 128 B, predicted 4.51 us");
  const Plan plan = make_plan(dp, {1 << 20}, Dtype::f32, {Partial()}, all, {});
  REQUIRE_EQ(plan.moves().size(), 2);
  CHECK_EQ(plan.moves()[0].kind, "transfer");
  CHECK_EQ(plan.moves()[1].kind, "all_gather");
  CHECK(plan.moves()[1].axes == std::vector<std::string>{"a", "b"});
  const Plan parts = make_plan(dp, {1 << 20}, Dtype::f32, {Shard(0)}, all, {Replicate(), Partial()});
  REQUIRE_EQ(parts.moves().size(), 2);
  CHECK_EQ(parts.moves()[0].change, "{dp: S(0)} -> {a: R, b: S(0)}");
  CHECK_EQ(parts.moves()[1].change, "S(0) -> P(sum) on b");
  CHECK(plan.svg().find("rank 7") != std::string::npos);
  CHECK_EQ(make_plan(dp, {8}, Dtype::f32, {Shard(0)}, dp, {}).moves()[0].kind, "all_gather");
}

TEST_CASE("a memory limit between meshes picks a plan or names the least") {
  const auto mesh = [](std::vector<dtensor::MeshAxis> axes, std::vector<int> ranks) { return dtensor::mesh::make_mesh(1, 8, axes, ranks); };
  const auto two = mesh({{"x", 2}}, {0, 1}), other = mesh({{"y", 2}}, {1, 2});
  using namespace dtensor;
  CHECK_THROWS_WITH_AS(make_plan(two, {64}, Dtype::f32, {Shard(0)}, other, {}, 100),
                       "redistribute: the memory limit cannot be met (100 bytes, the least peak is 384); raise it to 384", InvalidArgument);
  CHECK_EQ(make_plan(two, {64}, Dtype::f32, {Shard(0)}, other, {}, 384).peak_bytes(), 384);
  const auto elsewhere = dtensor::mesh::make_mesh(2, 8, std::vector<MeshAxis>{{"y", 2}}, std::vector<int>{1, 2});
  CHECK_THROWS_WITH_AS(make_plan(two, {64}, Dtype::f32, {}, elsewhere, {}),
                       "redistribute: meshes of different worlds (Mesh(x=2) and Mesh(y=2; ranks 1 2)); make both meshes from one World",
                       InvalidArgument);
}
