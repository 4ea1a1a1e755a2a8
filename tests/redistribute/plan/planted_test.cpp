// SPDX-License-Identifier: Apache-2.0
// The checks of routes are checked: what is planted in a route, in its boxes or in the choice among routes must be reported.
#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <optional>
#include <tuple>

#include "redistribute/covering.h"
#include "redistribute/plan/checked_route.h"
#include "redistribute/plan/neighbours.h"
#include "redistribute/plan/search.h"

using namespace checked;
using dtensor::Dtype;
using dtensor::redistribute::AxisMask;
using dtensor::redistribute::Costs;
using dtensor::redistribute::find_route;
using dtensor::redistribute::Found;
using dtensor::redistribute::reference_topology;
using dtensor::redistribute::search_smallest;
using dtensor::redistribute::search_within;
using dtensor::redistribute::Space;
using dtensor::redistribute::State;
using dtensor::redistribute::Step;
using simulated::all_layouts;
using simulated::ceil_splits;
using simulated::layout;
using simulated::text;

namespace {

// Changes a route; false where it has nothing to change.
struct Fault {
  const char* name;
  std::function<bool(Route&)> plant;
};

std::vector<Fault> route_faults() {
  const auto on_last = [](std::function<bool(Move&)> change) { return [change](Route& r) { return !r.moves.empty() && change(r.moves.back()); }; };
  return {
      {"the time of a move", on_last([](Move& m) { return ++m.nanoseconds, m.kind >= MoveKind::all_gather; })},
      {"the time of a move, and of the route with it",
       [](Route& r) {
         if (r.moves.empty() || r.moves.back().launches == 0) return false;
         ++r.moves.back().nanoseconds;
         ++r.nanoseconds;
         return true;
       }},
      {"the time of the route", [](Route& r) { return --r.nanoseconds, true; }},
      {"the worst rank's bytes of a move", on_last([](Move& m) { return m.bytes_received_max += 4, true; })},
      {"all bytes of a move", on_last([](Move& m) { return m.bytes_received_total -= 4, true; })},
      {"all bytes of a move, and of the route with it",
       [](Route& r) {
         if (r.moves.empty()) return false;
         r.moves.back().bytes_received_total += 4;
         r.bytes_received_total += 4;
         return true;
       }},
      {"the worst rank's bytes of the route", [](Route& r) { return r.bytes_received_max += 4, true; }},
      {"the launches of a move", on_last([](Move& m) { return m.launches = 1 - m.launches, true; })},
      {"the launches of the route", [](Route& r) { return ++r.launches, true; }},
      {"a peak that is too low", [](Route& r) { return r.peak_bytes -= 4, true; }},
      {"a peak that no route may have", [](Route& r) { return r.peak_bytes *= 4, true; }},
      {"the bound of the worst rank", [](Route& r) { return r.lower_bound_max += 4, true; }},
      {"the bound of all", [](Route& r) { return r.lower_bound_total -= 4, true; }},
      {"a move left out at the end", [](Route& r) { return !r.moves.empty() && (r.moves.pop_back(), true); }},
      {"a move left out at the beginning", [](Route& r) { return !r.moves.empty() && (r.moves.erase(r.moves.begin()), true); }},
      {"a move that reduces as one that does not",
       on_last([](Move& m) { return m.kind == MoveKind::reduce_scatter && (m.kind = MoveKind::all_to_all, true); })},
      {"a gather as a slice", on_last([](Move& m) { return m.kind == MoveKind::all_gather && (m.kind = MoveKind::slice, true); })},
      {"a slice as a relabel", on_last([](Move& m) { return m.kind == MoveKind::slice && (m.kind = MoveKind::relabel, true); })},
      {"an exchange as a gather", on_last([](Move& m) { return m.kind == MoveKind::all_to_all && (m.kind = MoveKind::all_gather, true); })},
      {"axes left out", on_last([](Move& m) { return m.launches > 0 && (m.axes.clear(), true); })},
      {"axes in another order", on_last([](Move& m) { return m.axes.size() > 1 && (std::swap(m.axes[0], m.axes[1]), true); })},
  };
}

// Changes what one rank sends or receives; false where there is nothing to change.
struct BoxFault {
  const char* name;
  std::function<bool(Transfer&)> plant;
};

std::vector<BoxFault> box_faults() {
  return {
      {"a receive left out", [](Transfer& t) { return !t.receives.empty() && (t.receives.pop_back(), true); }},
      {"a send left out", [](Transfer& t) { return !t.sends.empty() && (t.sends.pop_back(), true); }},
      {"a send from another place", [](Transfer& t) { return !t.sends.empty() && (++t.sends.back().offset, true); }},
      {"a receive to another place", [](Transfer& t) { return !t.receives.empty() && (++t.receives.back().offset, true); }},
      {"a receive twice", [](Transfer& t) { return !t.receives.empty() && (t.receives.push_back(t.receives.back()), true); }},
      {"two peers taken for each other",
       [](Transfer& t) {
         for (Piece& p : t.receives)
           if (p.peer != t.receives[0].peer) {
             std::swap(p.peer, t.receives[0].peer);
             return true;
           }
         return false;
       }},
      {"another size", [](Transfer& t) { return !t.receives.empty() && t.receives[0].sizes.ndim() > 0 && (++t.receives[0].sizes[0], true); }},
      {"contributions in another order",
       [](Transfer& t) {
         if (t.receives.size() < 2 || t.receives[0].offset != t.receives[1].offset) return false;
         std::swap(t.receives[0], t.receives[1]);
         return true;
       }},
  };
}

std::vector<LayoutRef> sample_layouts(const std::vector<int>& mesh, const Shape& shape) {
  auto splits = ceil_splits(mesh);
  splits.push_back({Split{{0}, 2, {}}, 0});
  splits.push_back({Split{{1}, 1, covering::ragged_sizes(shape[0], mesh[1], false)}, 0});
  return all_layouts(mesh, shape.ndim(), splits, {ReduceOp::sum, ReduceOp::max});
}

// ---- the choice among routes

using Encoding = std::vector<int>;
struct Way {
  std::int64_t cost = 0;
  int launches = 0;
  std::int64_t peak = 0, held = 0;
  int moves = 0;
  Encoding code;
  std::vector<Step> steps;
  auto order() const { return std::tie(cost, launches, peak, moves, code); }
};

Encoding code_of(const Space& space, const Step& step) {
  Encoding code{static_cast<int>(step.kind), static_cast<int>(step.axes)};
  for (int d = 0; d < space.ndim(); ++d) {
    Encoding splits;
    for (int list = step.to.lists[static_cast<std::size_t>(d)]; space.node(list).parent >= 0; list = space.node(list).parent)
      splits.insert(splits.begin(), space.node(list).split);
    code.insert(code.end(), splits.begin(), splits.end());
    code.push_back(-1);
  }
  code.insert(code.end(), step.to.partial.begin(), step.to.partial.end());
  return code;
}

bool fills(const Step& step) {
  for (std::size_t a = 0; a < step.to.partial.size(); ++a) {
    const int kind = step.to.partial[a] - 1;
    if (step.to.partial[a] != step.from.partial[a] && (kind == static_cast<int>(ReduceOp::sum) || kind == static_cast<int>(ReduceOp::product)))
      return true;
  }
  return false;
}
bool is_view(const Space& space, const Step& step) {
  if (step.kind == MoveKind::to_partial) return !fills(step);
  if (step.kind != MoveKind::slice) return step.kind == MoveKind::relabel;
  for (std::size_t d = 0; d < static_cast<std::size_t>(space.ndim()); ++d)
    if (step.from.lists[d] != step.to.lists[d] && !space.is_interval(space.node(step.to.lists[d]).split)) return false;
  return true;
}

// Every way from `from` to `to` with a peak of at most `most` bytes (0: any), grown move by move; among ways to one state with the same memory `better`
// keeps one. No bound, no estimate.
template <class Better>
std::optional<Way> best_way(Space& space, const Costs& costs, const State& from, const State& to, const Better& better, std::int64_t most = 0) {
  const auto bytes = [&](const State& s) { return space.worst(s) * costs.element_bytes(); };
  const std::int64_t room = std::max(bytes(from), bytes(to)), widest = bytes(from) + room + bytes(to),
                     limit = most > 0 ? std::min(most, widest) : widest;
  using Key = std::tuple<std::array<std::int32_t, dtensor::kMaxDims>, std::array<std::uint8_t, dtensor::kMaxDims>, std::int64_t, std::int64_t>;
  std::map<Key, Way> known;
  std::vector<std::pair<State, Way>> open;
  const std::vector<State> closing = states_before(space, to);
  const auto offer = [&](const State& state, Way way) {
    const auto [it, made] = known.try_emplace(Key{state.lists, state.partial, way.held, way.peak}, way);
    if (!made && !better(way, it->second)) return;
    it->second = way;
    open.push_back({state, std::move(way)});
  };
  Way start;
  start.peak = bytes(from);
  offer(from, start);
  while (!open.empty()) {
    const auto [state, way] = std::move(open.back());
    open.pop_back();
    if (state == to || known.at(Key{state.lists, state.partial, way.held, way.peak}).order() != way.order()) continue;
    const auto take = [&, &state = state, &way = way](const Step& step) {
      if (bytes(step.to) > room) return;
      const bool view = is_view(space, step), communicates = step.kind >= MoveKind::all_gather;
      Way next = way;
      next.peak = std::max(way.peak, bytes(from) + way.held + (view ? 0 : bytes(step.to)));
      if (next.peak > limit) return;
      // The rank that keeps the value of a new Partial has a view.
      if (!view) next.held = std::max(bytes(step.to), step.kind == MoveKind::to_partial ? way.held : 0);
      next.steps.push_back(step);
      if (communicates) {
        next.steps.back().nanoseconds =
            costs.communication(space, step.kind, step.axes, step.from, step.to, received(space, step.kind, step.from, step.to));
        ++next.launches;
      } else if (!view) {
        next.steps.back().nanoseconds = costs.writing(space.worst(step.to));
      }
      next.cost += next.steps.back().nanoseconds;
      ++next.moves;
      const Encoding code = code_of(space, step);
      next.code.insert(next.code.end(), code.begin(), code.end());
      offer(step.to, std::move(next));
    };
    for (const State& last : closing) {
      const Step direct = direct_step(space, state, last);
      if (direct.axes != 0 && direct.to == last) take(direct);
    }
    for_each_move(space, state, to, take);
  }
  std::optional<Way> best;
  for (const auto& [key, way] : known)
    if (std::get<0>(key) == to.lists && std::get<1>(key) == to.partial && (!best || better(way, *best))) best = way;
  return best;
}

bool comes_first(const Way& a, const Way& b) { return a.order() < b.order(); }

// Empty when the steps are the first in the total order, else in what they are not.
std::string choice_fault(const Space& space, const Found& given, const Way& first) {
  std::int64_t cost = 0;
  int launches = 0;
  Encoding code;
  for (const Step& step : given.steps) {
    cost += step.nanoseconds;
    launches += step.kind >= MoveKind::all_gather ? 1 : 0;
    const Encoding more = code_of(space, step);
    code.insert(code.end(), more.begin(), more.end());
  }
  if (cost != first.cost) return "not the cheapest";
  if (launches != first.launches) return "not the fewest launches at this cost";
  if (given.peak_bytes != first.peak) return "not the smallest peak at this cost";
  if (static_cast<int>(given.steps.size()) != first.moves) return "not the fewest moves";
  return code == first.code ? "" : "not the first encoding";
}

// One end of a pair: a letter per mesh axis, a dimension, R, or the Partial kinds s(um), a(vg), x (max), n (min).
LayoutRef end_of(const std::vector<int>& mesh, int ndim, const std::string& letters) {
  std::vector<std::vector<Split>> dims(static_cast<std::size_t>(ndim));
  std::vector<std::pair<int, ReduceOp>> partial;
  const std::map<char, ReduceOp> kinds{{'s', ReduceOp::sum}, {'a', ReduceOp::avg}, {'x', ReduceOp::max}, {'n', ReduceOp::min}};
  for (std::size_t a = 0; a < letters.size(); ++a) {
    if (const auto kind = kinds.find(letters[a]); kind != kinds.end()) partial.push_back({static_cast<int>(a), kind->second});
    else if (letters[a] != 'R') dims[static_cast<std::size_t>(letters[a] - '0')].push_back({{static_cast<int>(a)}, 1, {}});
  }
  return layout(mesh, dims, partial);
}

std::int64_t cost_of(const Found& found) {
  std::int64_t cost = 0;
  for (const Step& step : found.steps) cost += step.nanoseconds;
  return cost;
}

// Peaks that routes of this pair have, from the free choice's down to the least: each just excludes the one before.
int check_limits(const LayoutRef& a, const LayoutRef& b, const Shape& shape, const Topology& topology) {
  Space space(*a, *b, shape);
  const Costs costs(topology, space, 4);
  const State from = space.state_of(*a), to = space.state_of(*b);
  const std::int64_t least = search_smallest(space, costs, from, to).peak_bytes;
  std::int64_t peak = search(space, costs, from, to).peak_bytes;
  int limits = 0;
  for (; peak > least; ++limits) {
    const std::int64_t limit = peak - 1;
    const std::string what = text(*a) + " -> " + text(*b) + " " + dtensor::to_string(shape) + " within " + std::to_string(limit);
    CAPTURE(what);
    const auto best = best_way(space, costs, from, to, comes_first, limit);
    const auto found = search_within(space, costs, from, to, limit);
    REQUIRE(best.has_value());
    REQUIRE(found.has_value());
    REQUIRE(choice_fault(space, *found, *best) == "");
    REQUIRE_LE(best->peak, limit);
    peak = best->peak;
  }
  CHECK_FALSE(best_way(space, costs, from, to, comes_first, least - 1).has_value());
  CHECK_FALSE(search_within(space, costs, from, to, least - 1).has_value());
  return limits;
}

}  // namespace

TEST_CASE("what is planted in a route is reported") {
  std::map<std::string, int> planted;
  for (const auto& [mesh, shape] : std::vector<std::pair<std::vector<int>, Shape>>{{{2, 2}, {5, 3}}, {{2, 3}, {7}}}) {
    World world(mesh, shape);
    const auto layouts = sample_layouts(mesh, shape);
    for (std::size_t i = 0; i < layouts.size(); ++i)
      for (std::size_t j = i % 5; j < layouts.size(); j += 5) {
        const auto route = find_route(layouts[i], layouts[j], shape, Dtype::f32);
        REQUIRE(fault_of(world, *route, layouts[i], layouts[j], reference_topology(), 4) == "");
        for (const Fault& fault : route_faults()) {
          Route broken = *route;
          if (!fault.plant(broken)) continue;
          ++planted[fault.name];
          const std::string what = text(*layouts[i]) + " -> " + text(*layouts[j]) + ": " + fault.name;
          CAPTURE(what);
          CHECK(fault_of(world, broken, layouts[i], layouts[j], reference_topology(), 4) != "");
        }
      }
  }
  for (const Fault& fault : route_faults()) {
    CAPTURE(fault.name);
    CHECK_GT(planted[fault.name], 0);
  }
}

TEST_CASE("what is planted in the boxes of a move is reported") {
  std::map<std::string, int> planted;
  const Shape shape{5, 3};
  World world({2, 2}, shape);
  const auto layouts = sample_layouts({2, 2}, shape);
  for (std::size_t i = 0; i < layouts.size(); ++i)
    for (std::size_t j = i % 7; j < layouts.size(); j += 7) {
      const auto route = find_route(layouts[i], layouts[j], shape, Dtype::f32);
      for (const BoxFault& fault : box_faults())
        for (int rank : {0, 3}) {
          bool done = false;
          const Boxes boxes = [&](const Move& m, const Shape& s, const Shape& c) {
            Transfer t = lowered(m, s, c);
            if (!done && c == world.coordinates(rank)) done = fault.plant(t);
            return t;
          };
          const std::string reported = fault_of(world, *route, layouts[i], layouts[j], reference_topology(), 4, boxes);
          if (!done) continue;
          ++planted[fault.name];
          const std::string what = text(*layouts[i]) + " -> " + text(*layouts[j]) + ": " + fault.name;
          CAPTURE(what);
          CHECK(reported != "");
        }
    }
  for (const BoxFault& fault : box_faults()) {
    CAPTURE(fault.name);
    CHECK_GT(planted[fault.name], 0);
  }
}

TEST_CASE("the search takes the first route by cost, launches, peak and encoding; another of equal cost is reported") {
  int ties = 0, pairs = 0;
  // The same, but of equal ones the last encoding.
  const auto last = [](const Way& a, const Way& b) {
    return std::tie(a.cost, a.launches, a.peak, a.moves) < std::tie(b.cost, b.launches, b.peak, b.moves) ||
           (std::tie(a.cost, a.launches, a.peak, a.moves) == std::tie(b.cost, b.launches, b.peak, b.moves) && a.code > b.code);
  };
  Topology copies{{}, {10, 100}, 0.05, 0};
  for (const auto& [mesh, shape] : std::vector<std::pair<std::vector<int>, Shape>>{{{2, 2}, {5, 3}}, {{2, 3}, {7}}, {{2, 2}, {1, 4}}})
    for (const Topology& topology : {reference_topology(), copies}) {
      const auto layouts = sample_layouts(mesh, shape);
      for (std::size_t i = 0; i < layouts.size(); ++i)
        for (std::size_t j = i % 13; j < layouts.size(); j += 13) {
          if (i == j || dtensor::placements::equivalent(*layouts[i], *layouts[j], shape)) continue;
          Space space(*layouts[i], *layouts[j], shape);
          const Costs costs(topology, space, 4);
          const State from = space.state_of(*layouts[i]), to = space.state_of(*layouts[j]);
          const std::string what = text(*layouts[i]) + " -> " + text(*layouts[j]) + " " + dtensor::to_string(shape);
          CAPTURE(what);
          const auto best = best_way(space, costs, from, to, comes_first), other = best_way(space, costs, from, to, last);
          REQUIRE(best.has_value());
          REQUIRE(other.has_value());
          CHECK(choice_fault(space, search(space, costs, from, to), *best) == "");
          ++pairs;
          if (other->code == best->code) continue;
          CHECK(choice_fault(space, Found{other->steps, other->peak}, *best) == "not the first encoding");
          ++ties;
        }
    }
  CHECK_GT(pairs, 300);
  CHECK_GT(ties, 50);
}

TEST_CASE("a dearer route, one of more launches and one of a larger peak are reported") {
  Space space(*layout({4}, {{Split{{0}, 1, {}}}}), *layout({4}, {{}}), {8});
  const Costs costs(reference_topology(), space, 4);
  const State from = space.state_of(*layout({4}, {{Split{{0}, 1, {}}}})), to = space.state_of(*layout({4}, {{}}));
  const auto best = best_way(space, costs, from, to, comes_first);
  REQUIRE(best.has_value());
  Found found{best->steps, best->peak};
  CHECK(choice_fault(space, found, *best) == "");
  ++found.steps[0].nanoseconds;
  CHECK(choice_fault(space, found, *best) == "not the cheapest");
  found = {best->steps, best->peak + 4};
  CHECK(choice_fault(space, found, *best) == "not the smallest peak at this cost");
  found = {best->steps, best->peak};
  found.steps.push_back(found.steps[0]);
  found.steps.back().nanoseconds = 0;
  CHECK(choice_fault(space, found, *best) == "not the fewest launches at this cost");
}

TEST_CASE("under a memory limit the search takes the first of the routes that keep to it") {
  const Topology copies{{}, {10, 100}, 0.05, 0}, large_tensors{{}, {2000, 0.01}, 0.02, 500};
  struct Case {
    std::vector<int> mesh;
    Shape shape;
    const char *from, *to;
    Topology topology;
  };
  // On the way of each a cheaper prefix holds more memory than a dearer one of which the only routes within the limit are made.
  const std::vector<Case> known{{{3, 2}, {12, 7}, "xR", "0s", reference_topology()},
                                {{2, 2}, {1, 4}, "nn", "as", large_tensors},
                                {{2, 2}, {16, 16}, "xx", "as", reference_topology()},
                                {{2, 2}, {5, 3}, "xx", "Rs", large_tensors},
                                {{2, 2}, {5, 3}, "as", "sR", large_tensors}};
  for (const Case& c : known)
    CHECK_GT(check_limits(end_of(c.mesh, c.shape.ndim(), c.from), end_of(c.mesh, c.shape.ndim(), c.to), c.shape, c.topology), 0);
  int limits = 0;
  for (const auto& [mesh, shape] : std::vector<std::pair<std::vector<int>, Shape>>{{{2, 2}, {5, 3}}, {{2, 3}, {7}}, {{4}, {12, 5}}})
    for (const Topology& topology : {reference_topology(), copies, large_tensors}) {
      auto splits = ceil_splits(mesh);
      splits.push_back({Split{{0}, 2, {}}, 0});
      const auto layouts = all_layouts(mesh, shape.ndim(), splits, {ReduceOp::sum, ReduceOp::max});
      const std::size_t step = mesh.size() == 1 ? 1 : 19;
      for (std::size_t i = 0; i < layouts.size(); ++i)
        for (std::size_t j = i % step; j < layouts.size(); j += step)
          if (!dtensor::placements::equivalent(*layouts[i], *layouts[j], shape)) limits += check_limits(layouts[i], layouts[j], shape, topology);
    }
  CHECK_GT(limits, 5);
}

TEST_CASE("the peak counts what the rank that keeps the value of a new Partial has a view of") {
  const std::vector<int> mesh{2, 3, 2};
  const Shape shape{9, 7};
  const LayoutRef a = end_of(mesh, 2, "xxx"), b = end_of(mesh, 2, "sRs");
  Space space(*a, *b, shape);
  const Costs costs(reference_topology(), space, 4);
  const auto bytes = [&](const State& s) { return space.worst(s) * costs.element_bytes(); };
  const State from = space.state_of(*a), to = space.state_of(*b);
  const auto found = search_within(space, costs, from, to, 755);
  REQUIRE(found.has_value());
  std::int64_t held = 0, peak = bytes(from);
  for (const Step& step : found->steps) {
    const bool view = is_view(space, step);
    peak = std::max(peak, bytes(from) + held + (view ? 0 : bytes(step.to)));
    if (!view) held = std::max(bytes(step.to), step.kind == MoveKind::to_partial ? held : 0);
  }
  CHECK_EQ(found->peak_bytes, peak);
}

TEST_CASE("slices of several dimensions are taken in the order of the first encoding") {
  const std::vector<int> mesh{2, 2};
  const Shape shape{4, 3, 5};
  int pairs = 0;
  for (const char* from : {"RR", "sR"})
    for (const char* to : {"01", "10", "12", "21", "02", "20", "00", "22"}) {
      const LayoutRef a = end_of(mesh, 3, from), b = end_of(mesh, 3, to);
      Space space(*a, *b, shape);
      const Costs costs(reference_topology(), space, 4);
      const State source = space.state_of(*a), goal = space.state_of(*b);
      const auto best = best_way(space, costs, source, goal, comes_first);
      REQUIRE(best.has_value());
      const std::string what = text(*a) + " -> " + text(*b);
      CAPTURE(what);
      CHECK(choice_fault(space, search(space, costs, source, goal), *best) == "");
      ++pairs;
    }
  CHECK_EQ(pairs, 16);
}

TEST_CASE("a search that stops at its effort says how much a cheaper route may save, and stops alike every time") {
  const std::vector<int> mesh{2, 2, 2};
  int stopped = 0, dearer = 0;
  for (const Shape& shape : {Shape{8, 5}, Shape{64, 90}}) {
    const auto layouts = all_layouts(mesh, 2, ceil_splits(mesh), {ReduceOp::sum});
    for (std::size_t i = 0; i < layouts.size(); ++i)
      for (std::size_t j = i % 29; j < layouts.size(); j += 29) {
        if (i == j || dtensor::placements::equivalent(*layouts[i], *layouts[j], shape)) continue;
        Space space(*layouts[i], *layouts[j], shape);
        const Costs costs(reference_topology(), space, 4);
        const State from = space.state_of(*layouts[i]), to = space.state_of(*layouts[j]);
        const std::string what = text(*layouts[i]) + " -> " + text(*layouts[j]) + " " + dtensor::to_string(shape);
        CAPTURE(what);
        const Found exact = search(space, costs, from, to);
        REQUIRE_EQ(exact.gap, 0);
        for (const std::int64_t effort : {1, 100, 1000}) {
          const Found found = search(space, costs, from, to, effort), again = search(space, costs, from, to, effort);
          REQUIRE_GE(cost_of(found), cost_of(exact));
          REQUIRE_LE(cost_of(found) - found.gap, cost_of(exact));
          REQUIRE_EQ(cost_of(found), cost_of(again));
          REQUIRE_EQ(found.gap, again.gap);
          stopped += found.gap > 0 ? 1 : 0;
          dearer += cost_of(found) > cost_of(exact) ? 1 : 0;
        }
      }
  }
  CHECK_GT(stopped, 100);
  CHECK_GT(dearer, 10);
}
