// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <set>

#include "dtensor/error.h"
#include "redistribute/plan/simulated.h"

using namespace simulated;
using dtensor::Dtype;
using dtensor::redistribute::AxisLink;
using dtensor::redistribute::find_route;
using dtensor::redistribute::plan_route;
using dtensor::redistribute::reference_topology;
using dtensor::redistribute::RouteRef;
using dtensor::redistribute::Topology;

namespace {

// Follows a route on simulated ranks and compares with its figures.
void check_route(const LayoutRef& from, const LayoutRef& to, const Shape& shape, const Topology& topology = reference_topology()) {
  const std::string what = text(*from) + " -> " + text(*to) + " " + dtensor::to_string(shape);
  CAPTURE(what);
  const RouteRef route = find_route(from, to, shape, Dtype::f32, topology);
  const auto in = fill(*from, shape);
  std::vector<Local> ranks = in;
  std::int64_t total = 0, ns = 0;
  int launches = 0;
  LayoutRef at = from;
  for (const Move& m : route->moves) {
    REQUIRE(m.from == at);
    const Carried next = apply(m, shape, ranks);
    REQUIRE_EQ(next.fault, "");
    REQUIRE_EQ(m.bytes_received_max, next.received_max * 4);
    REQUIRE_EQ(m.bytes_received_total, next.received_total * 4);
    ranks = next.ranks;
    at = m.to;
    total += m.bytes_received_total;
    launches += m.launches;
    ns += m.nanoseconds;
  }
  REQUIRE(at == to);
  REQUIRE_EQ(route->bytes_received_total, total);
  REQUIRE_EQ(route->launches, launches);
  REQUIRE_EQ(route->nanoseconds, ns);
  REQUIRE_LE(route->lower_bound_max, route->bytes_received_max);
  REQUIRE_LE(route->lower_bound_total, route->bytes_received_total);
  const Value before = value_of(*from, shape, in), after = value_of(*to, shape, ranks);
  REQUIRE(after.consistent);
  REQUIRE(before.elements == after.elements);
  // Memory: nothing on the way is larger than the larger end.
  const auto worst = [&](const LayoutRef& l) { return dtensor::placements::worst_local_shape(*l, shape).numel() * 4; };
  for (const Move& m : route->moves) REQUIRE_LE(worst(m.to), std::max(worst(from), worst(to)));
  REQUIRE_LE(route->peak_bytes, worst(from) + worst(to) + std::max(worst(from), worst(to)));
}

// --- an independent search: every pair of layouts is tried as a move, and costs come from counting elements rank by rank ---

struct Graph {
  std::vector<int> mesh;
  Shape shape;
  Topology topology;
  std::vector<LayoutRef> layouts;
  std::vector<std::vector<std::vector<std::int64_t>>> ids;  // layout, rank -> elements
  std::vector<std::int64_t> largest;
  mutable std::vector<std::int64_t> shared;  // layout, layout, rank -> elements in both, once counted

  Graph(std::vector<int> m, Shape s, Topology t, std::vector<LayoutRef> l)
      : mesh(std::move(m)), shape(s), topology(std::move(t)), layouts(std::move(l)) {
    for (const auto& layout : layouts) {
      auto& per_rank = ids.emplace_back();
      std::size_t n = 0;
      for (int r = 0; r < rank_count(*layout); ++r) {
        per_rank.push_back(owned(*layout, shape, coordinates_of(mesh, r)));
        n = std::max(n, per_rank.back().size());
      }
      largest.push_back(static_cast<std::int64_t>(n));
    }
    shared.assign(layouts.size() * layouts.size() * ids.at(0).size(), -1);
  }
  std::int64_t worst(std::size_t i) const { return largest[i]; }
  std::int64_t common(std::size_t i, std::size_t j, std::size_t r) const {
    std::int64_t& known = shared[(i * layouts.size() + j) * ids[i].size() + r];
    if (known < 0) {
      known = 0;
      for (std::int64_t id : ids[j][r]) known += std::binary_search(ids[i][r].begin(), ids[i][r].end(), id) ? 1 : 0;
    }
    return known;
  }
  static std::int64_t up(double x) { return static_cast<std::int64_t>(std::ceil(x)); }
  std::int64_t write(std::int64_t elements) const { return up(static_cast<double>(elements * 4) / topology.copy_bytes_per_ns); }
  std::int64_t communication(MoveKind kind, const std::vector<int>& axes, std::size_t i, std::size_t j, std::int64_t p) const {
    double latency = 0, bandwidth = std::numeric_limits<double>::infinity();
    for (int a : axes) {
      const AxisLink& l = topology.axes.empty() ? topology.fallback : topology.axes[static_cast<std::size_t>(a)];
      latency = std::max(latency, l.latency_ns);
      bandwidth = std::min(bandwidth, l.bytes_per_ns);
    }
    std::int64_t received = 0, touched = p * worst(j);
    if (kind == MoveKind::all_reduce) {
      received = (p - 2) * ((worst(i) + p - 1) / p) + worst(i);
      touched = p * ((worst(j) + p - 1) / p) + worst(j);
    } else {
      for (std::size_t r = 0; r < ids[i].size(); ++r)
        received = std::max(received, p * static_cast<std::int64_t>(ids[j][r].size()) - common(i, j, r));
    }
    return up(topology.launch_ns) + up(latency) * (kind == MoveKind::send_recv ? 2 : 1) + up(static_cast<double>(received * 4) / bandwidth) +
           write(touched);
  }

  struct Edge {
    bool legal = false;
    std::int64_t cost = 0;
    bool view = false;   // of the storage it starts from
    bool keeps = false;  // on some rank
  };
  static std::size_t common_prefix(const std::vector<Split>& a, const std::vector<Split>& b) {
    std::size_t n = 0;
    while (n < a.size() && n < b.size() && a[n] == b[n]) ++n;
    return n;
  }
  // What it costs to go from i to j in one move, toward `goal`; `closes`: from j the goal is reached without communication.
  Edge edge(std::size_t i, std::size_t j, const Layout& goal, bool closes, bool local_only = false) const {
    const Layout &a = *layouts[i], &b = *layouts[j];
    bool a_prefix = true, b_prefix = true, same_lists = a.dims == b.dims;
    std::vector<int> off, on;
    for (std::size_t d = 0; d < a.dims.size(); ++d) {
      const std::size_t n = common_prefix(a.dims[d], b.dims[d]);
      a_prefix = a_prefix && n == a.dims[d].size();
      b_prefix = b_prefix && n == b.dims[d].size();
      for (std::size_t k = n; k < a.dims[d].size(); ++k) off.insert(off.end(), a.dims[d][k].axes.begin(), a.dims[d][k].axes.end());
      for (std::size_t k = n; k < b.dims[d].size(); ++k) on.insert(on.end(), b.dims[d][k].axes.begin(), b.dims[d][k].axes.end());
    }
    std::sort(off.begin(), off.end());
    std::sort(on.begin(), on.end());
    std::vector<int> gone, come;
    bool exchanged = false;
    std::int64_t p = 1;
    for (std::size_t x = 0; x < mesh.size(); ++x) {
      if (a.partial[x] == b.partial[x]) continue;
      if (a.partial[x] && b.partial[x]) exchanged = true;
      else if (a.partial[x]) gone.push_back(static_cast<int>(x)), p *= mesh[x];
      else come.push_back(static_cast<int>(x));
    }
    Edge best;
    const auto offer = [&](std::int64_t cost, bool local = false) {
      if (local_only && !local) return;
      if (!best.legal || cost < best.cost) best = {true, cost, cost == 0};
    };
    if (exchanged) return best;
    const bool to_goal = std::all_of(come.begin(), come.end(),
                                     [&](int x) { return b.partial[static_cast<std::size_t>(x)] == goal.partial[static_cast<std::size_t>(x)]; });
    if (gone.empty() && come.empty()) {
      if (a_prefix && !on.empty()) {
        bool view = true;
        for (std::size_t d = 0; d < a.dims.size(); ++d)
          for (std::size_t k = a.dims[d].size(); k < b.dims[d].size(); ++k) view = view && b.dims[d][k].pieces == 1;
        if (on.size() == 1 || view) offer(view ? 0 : write(worst(j)), true);
      }
      if (b_prefix && !off.empty()) offer(communication(MoveKind::all_gather, off, i, j, 1));
      if (!off.empty() && off == on) {
        offer(communication(MoveKind::all_to_all, off, i, j, 1));
        if (dtensor::placements::equivalent(a, b, shape)) offer(0, true);
      }
    }
    if (!gone.empty() && come.empty()) {
      if (same_lists) offer(communication(MoveKind::all_reduce, gone, i, j, p));
      if (a_prefix && on == gone) offer(communication(MoveKind::reduce_scatter, gone, i, j, p));
    }
    if (gone.empty() && !come.empty() && same_lists && to_goal) {
      const bool fills = std::any_of(come.begin(), come.end(), [&](int x) {
        return b.partial[static_cast<std::size_t>(x)] == ReduceOp::sum || b.partial[static_cast<std::size_t>(x)] == ReduceOp::product;
      });
      offer(fills ? write(worst(j)) : 0, true);
      best.keeps = true;
    }
    if (gone.empty() && !come.empty() && come == off && to_goal) {
      // Own part kept: along the axes that come the parts of a dimension make up what its common prefix gives. Only such a dimension is cut as well.
      bool legal = true;
      for (int x : come) legal = legal && b.partial[static_cast<std::size_t>(x)] != ReduceOp::avg;
      for (std::size_t d = 0; d < a.dims.size(); ++d) {
        const std::size_t n = common_prefix(a.dims[d], b.dims[d]);
        legal = legal && (n < a.dims[d].size() || n == b.dims[d].size());
      }
      for (int x : on) legal = legal && !a.partial[static_cast<std::size_t>(x)] && a.dim_of(x) < 0;
      if (legal) offer(write(worst(j)), true);
    }
    if (come.empty() && closes && (a.dims != b.dims || !gone.empty())) {
      std::vector<int> axes = gone;
      axes.insert(axes.end(), off.begin(), off.end());
      axes.insert(axes.end(), on.begin(), on.end());
      offer(communication(MoveKind::send_recv, axes, i, j, p));
    }
    return best;
  }

  mutable std::map<std::size_t, std::vector<char>> closing;  // goal -> layouts from which it is reached without communication, once found
  const std::vector<char>& closing_to(std::size_t to) const {
    auto [it, made] = closing.try_emplace(to, layouts.size(), char{0});
    if (!made) return it->second;
    std::vector<std::size_t> open{to};
    it->second[to] = 1;
    while (!open.empty()) {
      const std::size_t k = open.back();
      open.pop_back();
      for (std::size_t j = 0; j < layouts.size(); ++j) {
        if (it->second[j] || !edge(j, k, *layouts[to], false, true).legal) continue;
        it->second[j] = 1;
        open.push_back(j);
      }
    }
    return it->second;
  }

  // Every move toward `to`, by where it starts.
  struct Reached {
    std::size_t at = 0;
    Edge edge;
  };
  std::vector<std::vector<Reached>> moves_toward(std::size_t to) const {
    const std::vector<char>& closes = closing_to(to);
    std::vector<std::vector<Reached>> moves(layouts.size());
    for (std::size_t i = 0; i < layouts.size(); ++i)
      for (std::size_t j = 0; j < layouts.size(); ++j)
        if (const Edge e = i == j ? Edge{} : edge(i, j, *layouts[to], closes[j] != 0); e.legal) moves[i].push_back({j, e});
    return moves;
  }

  std::int64_t cheapest(std::size_t from, std::size_t to) const { return cheapest(from, to, moves_toward(to)); }
  std::int64_t cheapest(std::size_t from, std::size_t to, const std::vector<std::vector<Reached>>& moves) const {
    const std::int64_t room = std::max(worst(from), worst(to)), beyond_source = room + worst(to);
    // A place on the way is a layout and the elements of the storage that holds it beyond the source's.
    using Place = std::pair<std::size_t, std::int64_t>;
    std::map<Place, std::int64_t> known{{{from, 0}, 0}};
    std::set<std::pair<std::int64_t, Place>> open{{0, {from, 0}}};
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    while (!open.empty()) {
      const auto [cost, place] = *open.begin();
      open.erase(open.begin());
      if (place.first == to) return cost;
      for (const auto& [j, e] : moves[place.first]) {
        if (worst(j) > room || cost + e.cost > least || (!e.view && place.second + worst(j) > beyond_source)) continue;
        const Place next{j, e.view ? place.second : std::max(worst(j), e.keeps ? place.second : 0)};
        const auto [it, made] = known.try_emplace(next, cost + e.cost);
        if (!made && it->second <= cost + e.cost) continue;
        if (!made) open.erase({it->second, next});
        it->second = cost + e.cost;
        open.insert({it->second, next});
        if (j == to) least = std::min(least, it->second);
      }
    }
    return -1;
  }
};

// Every `step`-th source to every `step`-th target; how many pairs.
std::size_t compare_all(const Graph& graph, std::size_t step = 1) {
  std::size_t pairs = 0;
  for (std::size_t j = 0; j < graph.layouts.size(); j += step) {
    const auto moves = graph.moves_toward(j);
    for (std::size_t i = j % step; i < graph.layouts.size(); i += step) {
      const RouteRef route = plan_route(graph.layouts[i], graph.layouts[j], graph.shape, Dtype::f32, graph.topology);
      const std::int64_t expected = graph.cheapest(i, j, moves);
      const std::string what = text(*graph.layouts[i]) + " -> " + text(*graph.layouts[j]) + " " + dtensor::to_string(graph.shape);
      CAPTURE(what);
      REQUIRE_EQ(route->nanoseconds, expected);
      ++pairs;
    }
  }
  return pairs;
}

// The same link figures differ by axis: a slow outer one, and one without any start cost.
std::vector<Topology> topologies(std::size_t axes) {
  Topology slow_outer;
  slow_outer.axes.assign(axes, {500, 40});
  slow_outer.axes[0] = {9000, 0.5};
  Topology bytes_only{{}, {0, 0.01}, 1e6, 0};
  Topology copies{{}, {10, 100}, 0.05, 0};
  Topology large_tensors{{}, {2000, 0.01}, 0.02, 500};
  return {reference_topology(), slow_outer, bytes_only, copies, large_tensors};
}

LayoutRef of_axes(const std::vector<int>& mesh, const std::string& axes, int ndim, ReduceOp op = ReduceOp::sum) {
  std::vector<std::vector<Split>> dims(static_cast<std::size_t>(ndim));
  std::vector<std::pair<int, ReduceOp>> partial;
  for (std::size_t a = 0; a < axes.size(); ++a) {
    if (axes[a] == 'P') partial.push_back({static_cast<int>(a), op});
    else if (axes[a] != 'R') dims[static_cast<std::size_t>(axes[a] - '0')].push_back({{static_cast<int>(a)}, 1, {}});
  }
  return layout(mesh, dims, partial);
}

std::vector<MoveKind> kinds(const RouteRef& route) {
  std::vector<MoveKind> result;
  for (const Move& m : route->moves) result.push_back(m.kind);
  return result;
}

}  // namespace

TEST_CASE("the cost equals that of an independent search for all pairs of S, R and P on one and two axes") {
  struct Case {
    std::vector<int> mesh;
    std::vector<Shape> shapes;
  };
  const std::vector<Case> cases{{{2}, {{7}, {4, 6}, {1, 3}, {70, 90}}},
                                {{3}, {{7}, {50, 61}}},
                                {{4}, {{9}, {5, 80}}},
                                {{2, 2}, {{9}, {8, 6}, {60, 41}}},
                                {{3, 2}, {{7}, {12, 90}}},
                                {{2, 3}, {{1}, {31, 8}}},
                                {{1, 3}, {{5, 4}}}};
  for (const Case& c : cases)
    for (const Shape& shape : c.shapes)
      for (const Topology& t : topologies(c.mesh.size())) {
        // An axis of one rank is the same under every placement; the independent search knows only one.
        const auto layouts =
            all_layouts(c.mesh, shape.ndim(), ceil_splits(c.mesh), c.mesh[0] == 1 ? std::vector<ReduceOp>{} : std::vector<ReduceOp>{ReduceOp::sum});
        compare_all(Graph(c.mesh, shape, t, layouts));
      }
}

TEST_CASE("the cost equals that of an independent search for pairs of S, R and P on three axes and up to three dimensions") {
  const char* given = std::getenv("DTENSOR_PAIRS");
  const bool all = given != nullptr && std::string(given) == "all";
  struct Case {
    std::vector<int> mesh;
    std::vector<Shape> shapes;
  };
  const std::vector<Case> cases{
      {{2, 2, 2}, {{17}, {8, 6}, {16, 24, 40}, {5, 3, 7}}}, {{2, 3, 2}, {{13}, {12, 18}, {6, 5, 9}}}, {{4, 2, 2}, {{24}, {9, 16}, {8, 12, 6}}}};
  for (const Case& c : cases)
    for (const Shape& shape : c.shapes) {
      const auto given_topologies = topologies(3);
      for (std::size_t t = 0; t < (all ? given_topologies.size() : 1); ++t) {
        const Graph graph(c.mesh, shape, given_topologies[t], all_layouts(c.mesh, shape.ndim(), ceil_splits(c.mesh), {ReduceOp::sum}));
        const auto start = std::chrono::steady_clock::now();
        const std::size_t pairs = compare_all(graph, all ? 1 : 19);
        if (all)
          std::printf("%dx%dx%d %s: %zu pairs, %.1f s\n", c.mesh[0], c.mesh[1], c.mesh[2], dtensor::to_string(shape).c_str(), pairs,
                      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        CHECK_GT(pairs, graph.layouts.size() / 19);
      }
    }
}

TEST_CASE("the cost equals that of an independent search among strided, ragged and reordered layouts") {
  struct Case {
    std::vector<int> mesh;
    Shape shape;
    std::vector<std::pair<Split, int>> extra;
  };
  const std::vector<Case> cases{{{2}, {12, 5}, {{{{0}, 2, {}}, 0}, {{{0}, 1, {9, 3}}, 0}}},
                                {{3}, {800}, {{{{0}, 1, {800, 0, 0}}, 0}, {{{0}, 1, {267, 267, 266}}, 0}}},
                                {{2, 2}, {8}, {{{{0}, 2, {}}, 0}, {{{0, 1}, 1, {2, 2, 2, 2}}, 0}}},
                                {{2, 2}, {90, 6}, {{{{1}, 3, {}}, 0}}},
                                {{2, 3}, {7}, {{{{1, 0}, 1, {2, 0, 1, 3, 0, 1}}, 0}}}};
  // Both ends together name the splits that may occur on the way, so an end that names neither extra is left to the test above.
  for (const Case& c : cases)
    for (std::size_t k = 0; k < c.extra.size(); ++k) {
      auto splits = ceil_splits(c.mesh);
      splits.push_back(c.extra[k]);
      const Graph graph(c.mesh, c.shape, reference_topology(), all_layouts(c.mesh, c.shape.ndim(), splits, {ReduceOp::sum}));
      for (std::size_t i = 0; i < graph.layouts.size(); ++i)
        for (std::size_t j = 0; j < graph.layouts.size(); ++j) {
          const auto has = [&](const Layout& l) {
            const auto& list = l.dims[0];
            return std::find(list.begin(), list.end(), c.extra[k].first) != list.end();
          };
          if ((!has(*graph.layouts[i]) && !has(*graph.layouts[j])) || (i * 31 + j) % 3 != 0) continue;
          const std::string what = text(*graph.layouts[i]) + " -> " + text(*graph.layouts[j]) + " " + dtensor::to_string(c.shape);
          CAPTURE(what);
          REQUIRE_EQ(find_route(graph.layouts[i], graph.layouts[j], c.shape, Dtype::f32)->nanoseconds,
                     dtensor::placements::equivalent(*graph.layouts[i], *graph.layouts[j], c.shape) ? 0 : graph.cheapest(i, j));
        }
    }
}

TEST_CASE("routes carry every pair of layouts on one axis, with the bytes they announce") {
  for (int ranks : {1, 2, 3, 4, 6})
    for (std::int64_t n : {0, 1, 2, 3, 5, 8, 9}) {
      std::vector<std::int64_t> spread(static_cast<std::size_t>(ranks), 0);
      for (std::int64_t i = 0; i < n; ++i) ++spread[static_cast<std::size_t>((i * i) % ranks)];
      const std::vector<std::pair<Split, int>> splits{{{{0}, 1, {}}, -1}, {{{0}, 2, {}}, -1}, {{{0}, 3, {}}, -1}, {{{0}, 1, spread}, 0}};
      const auto layouts = all_layouts({ranks}, 2, splits, {ReduceOp::sum, ReduceOp::avg, ReduceOp::max, ReduceOp::product});
      for (const auto& from : layouts)
        for (const auto& to : layouts) check_route(from, to, {n, 3});
    }
}

TEST_CASE("routes carry pairs of layouts on two and three axes, with the bytes they announce") {
  struct Case {
    std::vector<int> mesh;
    Shape shape;
    std::vector<std::pair<Split, int>> extra;
    std::vector<ReduceOp> ops;
    std::size_t step;
  };
  const std::vector<Case> cases{{{2, 2}, {5, 6}, {{{{0}, 2, {}}, 0}}, {ReduceOp::sum, ReduceOp::avg}, 7},
                                {{2, 3}, {7}, {{{{0, 1}, 1, {2, 0, 1, 3, 0, 1}}, 0}, {{{1}, 2, {}}, 0}}, {ReduceOp::sum, ReduceOp::min}, 1},
                                {{3, 2}, {1, 9}, {}, {ReduceOp::product, ReduceOp::max}, 5},
                                {{2, 2, 2}, {8, 5}, {{{{1}, 2, {}}, 1}}, {ReduceOp::sum}, 211},
                                {{2, 2, 2}, {3, 4, 2}, {}, {ReduceOp::sum}, 53},
                                {{2, 1, 3}, {13}, {{{{1}, 1, {13}}, 0}}, {ReduceOp::avg}, 3}};
  for (const Case& c : cases) {
    auto splits = ceil_splits(c.mesh);
    splits.insert(splits.end(), c.extra.begin(), c.extra.end());
    const auto layouts = all_layouts(c.mesh, c.shape.ndim(), splits, c.ops);
    for (std::size_t i = 0; i < layouts.size(); ++i)
      for (std::size_t j = i % c.step; j < layouts.size(); j += c.step) check_route(layouts[i], layouts[j], c.shape);
  }
}

TEST_CASE("the usual moves are single collectives") {
  const auto one = [](const char* from, const char* to, const Shape& shape, std::vector<int> mesh = {4}) {
    return kinds(find_route(of_axes(mesh, from, shape.ndim()), of_axes(mesh, to, shape.ndim()), shape, Dtype::f32));
  };
  for (const Shape& shape : {Shape{8, 8}, Shape{1024, 4096}, Shape{7, 1001}}) {
    CHECK(one("0", "R", shape) == std::vector{MoveKind::all_gather});
    CHECK(one("1", "R", shape) == std::vector{MoveKind::all_gather});
    CHECK(one("P", "R", shape) == std::vector{MoveKind::all_reduce});
    CHECK(one("P", "1", shape) == std::vector{MoveKind::reduce_scatter});
    CHECK(one("0", "1", shape) == std::vector{MoveKind::all_to_all});
    CHECK(one("R", "0", shape) == std::vector{MoveKind::slice});
    CHECK(one("R", "P", shape) == std::vector{MoveKind::to_partial});
    CHECK(one("0", "P", shape) == std::vector{MoveKind::shard_to_partial});
    CHECK(one("00", "RR", shape, {2, 2}) == std::vector{MoveKind::all_gather});
    CHECK(one("PP", "RR", shape, {2, 2}) == std::vector{MoveKind::all_reduce});
    CHECK(one("PP", "01", shape, {2, 2}) == std::vector{MoveKind::reduce_scatter});
    CHECK(one("01", "10", shape, {2, 2}).size() == 1);
    CHECK(one("RR", "01", shape, {2, 2}) == std::vector{MoveKind::slice});
  }
  // The order of splits alone: the same pieces on other ranks.
  const auto swapped = layout({2, 2}, {{Split{{1}, 1, {}}, Split{{0}, 1, {}}}});
  CHECK(kinds(find_route(of_axes({2, 2}, "00", 1), swapped, {8}, Dtype::f32)) == std::vector{MoveKind::permute});
  // Sum and avg together take one launch.
  const auto mixed = layout({2, 2}, {{}}, {{0, ReduceOp::sum}, {1, ReduceOp::avg}});
  CHECK(kinds(find_route(mixed, of_axes({2, 2}, "RR", 1), {8}, Dtype::f32)) == std::vector{MoveKind::all_reduce});
}

TEST_CASE("launches on 2x2x2 meet or beat the known counts") {
  struct Row {
    const char *from, *to;
    int launches;
    Shape shape;
  };
  const Shape cube{8, 8, 8}, large{16, 16, 16};
  const std::vector<Row> rows{{"000", "001", 3, cube},  {"010", "100", 3, cube},  {"012", "210", 2, cube},  {"100", "R00", 1, cube},
                              {"1R0", "R00", 2, cube},  {"001", "012", 2, cube},  {"000", "111", 3, cube},  {"PP0", "000", 3, large},
                              {"PPP", "RRR", 1, large}, {"P0P", "RRR", 3, large}, {"PRP", "RRR", 1, large}, {"0R0", "RRR", 1, large},
                              {"0R1", "RRR", 2, large}};
  for (const Row& row : rows) {
    CAPTURE(row.from);
    CAPTURE(row.to);
    CHECK_LE(find_route(of_axes({2, 2, 2}, row.from, 3), of_axes({2, 2, 2}, row.to, 3), row.shape, Dtype::f64)->launches, row.launches);
  }
  for (const auto& [from, to] :
       std::vector<std::pair<const char*, const char*>>{{"000", "001"}, {"010", "100"}, {"012", "210"}, {"000", "111"}, {"1R0", "R00"}})
    CHECK_EQ(find_route(of_axes({2, 2, 2}, from, 3), of_axes({2, 2, 2}, to, 3), cube, Dtype::f64)->launches, 1);
}

TEST_CASE("bytes follow the conventions, uneven included") {
  const auto figures = [](const char* from, const char* to, std::vector<int> mesh, const Shape& shape) {
    return find_route(of_axes(mesh, from, shape.ndim()), of_axes(mesh, to, shape.ndim()), shape, Dtype::f32);
  };
  const auto gather = figures("0", "R", {4}, {7});  // 2 2 2 1
  CHECK_EQ(gather->bytes_received_max, 4 * 6);
  CHECK_EQ(gather->bytes_received_total, 4 * (5 + 5 + 5 + 6));
  CHECK_EQ(gather->lower_bound_max, gather->bytes_received_max);
  const auto scatter = figures("P", "0", {4}, {7});
  CHECK_EQ(scatter->bytes_received_max, 4 * 3 * 2);
  CHECK_EQ(scatter->bytes_received_total, 4 * 3 * 7);
  CHECK_EQ(scatter->lower_bound_total, scatter->bytes_received_total);
  const auto reduce = figures("P", "R", {4}, {8, 8});
  CHECK_EQ(reduce->bytes_received_max, 2 * 3 * 64 * 4 / 4);
  CHECK_EQ(reduce->lower_bound_max, reduce->bytes_received_max);
  const auto exchange = figures("0", "1", {2}, {4, 4});
  CHECK_EQ(exchange->bytes_received_max, 4 * 4);
  CHECK_EQ(exchange->bytes_received_total, 4 * 8);
  CHECK_EQ(exchange->peak_bytes, 4 * (8 + 8));
  CHECK_EQ(figures("R", "0", {2}, {4, 4})->peak_bytes, 4 * 16);
}

TEST_CASE("equivalent layouts are relabelled and equal ones need nothing") {
  const auto order = layout({3, 2}, {{Split{{1}, 1, {}}, Split{{0}, 1, {}}}});
  const auto strided = layout({3, 2}, {{Split{{0}, 2, {}}, Split{{1}, 1, {}}}});
  const RouteRef even = find_route(strided, order, {12}, Dtype::f32), uneven = find_route(strided, order, {7}, Dtype::f32);
  REQUIRE_EQ(even->moves.size(), 1);
  CHECK_EQ(even->moves[0].kind, MoveKind::relabel);
  CHECK_EQ(even->launches, 0);
  CHECK_GT(uneven->launches, 0);
  CHECK(find_route(order, order, {12}, Dtype::f32)->moves.empty());
  // A strided layout that is an order in disguise is gathered along one axis only.
  const RouteRef along = find_route(strided, layout({3, 2}, {{Split{{1}, 1, {}}}}), {12}, Dtype::f32);
  REQUIRE_EQ(along->moves.size(), 1);
  CHECK_EQ(along->moves[0].kind, MoveKind::all_gather);
  CHECK(along->moves[0].axes == std::vector<int>{0});
}

TEST_CASE("a slow outer axis changes the route") {
  Topology flat = reference_topology(), slow = reference_topology();
  slow.axes = {{2000, 0.05}, {2000, 50}};
  const auto from = of_axes({2, 4}, "00", 1), to = of_axes({2, 4}, "RR", 1);
  const RouteRef one = find_route(from, to, {1 << 20}, Dtype::f32, flat);
  CHECK_EQ(one->launches, 1);
  // Partial on both axes: first scatter along the fast one, so that little crosses the slow one.
  const auto partial = of_axes({2, 4}, "PP", 1);
  CHECK_EQ(find_route(partial, to, {1 << 20}, Dtype::f32, flat)->launches, 1);
  const RouteRef split = find_route(partial, to, {1 << 20}, Dtype::f32, slow);
  CHECK_EQ(split->launches, 3);
  CHECK_EQ(split->moves.front().kind, MoveKind::reduce_scatter);
  CHECK(split->moves.front().axes == std::vector<int>{1});
}

TEST_CASE("a memory limit picks a smaller plan or names the least that would do") {
  const auto from = of_axes({4}, "P", 2, ReduceOp::max), to = of_axes({4}, "P", 2, ReduceOp::sum);
  const RouteRef free = find_route(from, to, {64, 64}, Dtype::f32);
  const std::int64_t whole = 64 * 64 * 4;
  CHECK_EQ(free->peak_bytes, whole * 2 + whole / 4);
  CHECK_THROWS_WITH_AS(find_route(from, to, {64, 64}, Dtype::f32, reference_topology(), whole),
                       doctest::Contains(("the least peak is " + std::to_string(whole * 2 + (whole + whole / 4) / 64)).c_str()),
                       dtensor::InvalidArgument);
  // Row by row the reduced rows and the neutral elements are needed for one row only.
  const RouteRef rows = find_route(from, to, {64, 64}, Dtype::f32, reference_topology(), whole * 2 + (whole + whole / 4) / 64);
  CHECK_EQ(rows->chunks.count, 64);
  CHECK_EQ(rows->launches, 64 * free->launches);
  CHECK_EQ(rows->bytes_received_max, free->bytes_received_max);
  CHECK_EQ(rows->bytes_received_total, free->bytes_received_total);
  const RouteRef halves = find_route(from, to, {64, 64}, Dtype::f32, reference_topology(), whole * 2 + whole / 4 - 1);
  CHECK_GT(rows->nanoseconds, halves->nanoseconds);
  CHECK_GT(halves->nanoseconds, free->nanoseconds);
  // min keeps the value everywhere, so that the reduced tensor is the result: less memory, more bytes.
  const auto smallest = of_axes({4}, "P", 2, ReduceOp::min);
  CHECK_EQ(find_route(from, smallest, {64, 64}, Dtype::f32)->peak_bytes, whole * 2 + whole / 4);
  const RouteRef limited = find_route(from, smallest, {64, 64}, Dtype::f32, reference_topology(), whole * 2);
  CHECK_EQ(limited->peak_bytes, whole * 2);
  CHECK(kinds(limited) == std::vector{MoveKind::all_reduce, MoveKind::to_partial});
}

TEST_CASE("layouts that do not belong together are refused by text") {
  const auto a = of_axes({4}, "0", 1), b = of_axes({2, 2}, "00", 1), c = of_axes({4}, "0", 2);
  CHECK_THROWS_WITH_AS(find_route(a, b, {8}, Dtype::f32), "redistribute: the layouts are of different meshes ([4], [2, 2]); give both for one mesh",
                       dtensor::InvalidArgument);
  CHECK_THROWS_WITH_AS(find_route(a, c, {8}, Dtype::f32),
                       "redistribute: numbers of dimensions differ (source 1, target 2, shape [8]); give layouts of the tensor",
                       dtensor::InvalidArgument);
  Topology bad = reference_topology();
  bad.fallback.bytes_per_ns = 0;
  CHECK_THROWS_WITH_AS(find_route(a, of_axes({4}, "R", 1), {8}, Dtype::f32, bad), "topology: bytes_per_ns must be positive (0); correct the figure",
                       dtensor::InvalidArgument);
}

TEST_CASE("a route does not depend on what was planned before") {
  const auto from = of_axes({2, 2, 2}, "P01", 3), to = of_axes({2, 2, 2}, "2RP", 3);
  const RouteRef first = find_route(from, to, {9, 8, 7}, Dtype::f32);
  // Enough others to push it out of the table.
  for (std::int64_t n = 1; n < 12000; ++n) find_route(of_axes({2}, "0", 1), of_axes({2}, "R", 1), {n}, Dtype::f32);
  const RouteRef again = find_route(from, to, {9, 8, 7}, Dtype::f32);
  CHECK(first != again);
  REQUIRE_EQ(first->moves.size(), again->moves.size());
  for (std::size_t i = 0; i < first->moves.size(); ++i) {
    CHECK_EQ(first->moves[i].kind, again->moves[i].kind);
    CHECK(first->moves[i].axes == again->moves[i].axes);
    CHECK(first->moves[i].to == again->moves[i].to);
  }
  CHECK(find_route(from, to, {9, 8, 7}, Dtype::f32) == again);
}
