// SPDX-License-Identifier: Apache-2.0
#include "redistribute/plan/route.h"

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <tuple>
#include <utility>

#include "base/error_text.h"
#include "base/hash.h"
#include "redistribute/plan/between.h"
#include "redistribute/plan/chunks.h"
#include "redistribute/plan/pattern.h"
#include "redistribute/plan/route_cache.h"
#include "redistribute/plan/search.h"

namespace dtensor::redistribute {
namespace {

// Relabels join a neighbour, slices each other: boxes depend on owned indices alone.
std::vector<Step> joined(std::vector<Step> steps) {
  std::vector<Step> result;
  for (const Step& step : steps) {
    if (!result.empty()) {
      Step& last = result.back();
      const bool slices = last.kind == MoveKind::slice && step.kind == MoveKind::slice;
      if (slices || step.kind == MoveKind::relabel || last.kind == MoveKind::relabel) {
        if (slices) last.axes |= step.axes;
        else if (step.kind != MoveKind::relabel) last.kind = step.kind, last.axes = step.axes;
        last.to = step.to;
        last.nanoseconds += step.nanoseconds;
        continue;
      }
    }
    result.push_back(step);
  }
  return result;
}

constexpr std::size_t kPermuteRanks = 4096;

// What the ranks along the axes of `list` own, each different part once.
std::vector<std::vector<Run>> parts_of(const Space& space, int list) {
  std::vector<std::vector<Run>> parts;
  const Ownership& owners = space.ownership(list);
  for (std::size_t r = 0; r < owners.counts.size(); ++r) parts.emplace_back(owners.of(r).begin(), owners.of(r).end());
  const auto before = [](const Run& x, const Run& y) { return std::tie(x.begin, x.length) < std::tie(y.begin, y.length); };
  std::sort(parts.begin(), parts.end(),
            [&](const auto& x, const auto& y) { return std::lexicographical_compare(x.begin(), x.end(), y.begin(), y.end(), before); });
  parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
  return parts;
}

// Every rank gets the whole of what one rank had. The axes of the dimensions differ, so each dimension answers for itself.
bool is_permutation(const Space& space, const Step& step) {
  for (std::size_t d = 0; d < static_cast<std::size_t>(space.ndim()); ++d) {
    const int from = step.from.lists[d], to = step.to.lists[d];
    if (from == to) continue;
    const ListNode &a = space.node(from), &b = space.node(to);
    if (a.worst != b.worst) return false;
    // Even intervals of one length are one grid.
    if (a.even() && b.even() && a.intervals && b.intervals) continue;
    if (a.sizes != b.sizes || static_cast<std::size_t>(space.ranks_of(a.axes | b.axes)) > kPermuteRanks) return false;
    const auto had = parts_of(space, from), wanted = parts_of(space, to);
    if (!std::all_of(wanted.begin(), wanted.end(), [&](const auto& part) { return std::find(had.begin(), had.end(), part) != had.end(); }))
      return false;
  }
  return true;
}

Move move_of(const Space& space, const Step& step, std::int64_t element_bytes) {
  Move move;
  move.kind = step.kind == MoveKind::all_to_all && is_permutation(space, step) ? MoveKind::permute : step.kind;
  for (int a = 0; a < space.mesh_ndim(); ++a)
    if (step.axes & bit(a)) move.axes.push_back(a);
  const Received bytes = received(space, step.kind, step.from, step.to);
  move.bytes_received_max = bytes.max * element_bytes;
  move.bytes_received_total = bytes.total * element_bytes;
  move.launches = step.kind >= MoveKind::all_gather ? 1 : 0;
  move.nanoseconds = step.nanoseconds;
  return move;
}

// What the rank that receives most over the whole route receives; at most the sum over the moves.
std::int64_t worst_received(const Space& space, const std::vector<Step>& steps, std::int64_t sum) {
  Classes classes(space);
  for (const Step& step : steps)
    for (std::size_t d = 0; d < static_cast<std::size_t>(space.ndim()); ++d) {
      const int from = step.from.lists[d], to = step.to.lists[d], prefix = space.common_prefix(from, to);
      classes.separate(from);
      classes.separate(to);
      if (prefix != from && prefix != to) classes.separate_all((space.node(from).axes | space.node(to).axes) & ~space.node(prefix).axes);
      // Chunks of an all_reduce are of what is local.
      if (step.kind == MoveKind::all_reduce) classes.separate_all(reduced_axes(space, step.from, step.to));
    }
  classes.close();
  std::int64_t worst = 0;
  Shape c = Shape::filled(space.mesh_ndim(), 0);
  classes.for_each(space.active(), c, [&](const Shape& at, std::int64_t) {
    std::int64_t elements = 0;
    for (const Step& step : steps) elements += received_by(space, step.kind, step.from, step.to, at);
    worst = std::max(worst, elements);
    return worst < sum;
  });
  return worst;
}

void add_relabel(Route& route, const LayoutRef& from, const LayoutRef& to) {
  Move move;
  move.from = from;
  move.to = to;
  route.moves.push_back(std::move(move));
}

bool same_everywhere(const Space& space, const State& from, const State& to) {
  if (from.partial != to.partial) return false;
  for (std::size_t d = 0; d < static_cast<std::size_t>(space.ndim()); ++d)
    if (!space.same_indices(from.lists[d], to.lists[d])) return false;
  return true;
}

RouteRef plan(const Question& q, std::int64_t limit) {
  Space space(*q.from, *q.to, q.shape);
  const std::int64_t element_bytes = info(q.dtype).bytes;
  const Costs costs(*q.topology, space, element_bytes);
  const State source = space.state_of(*q.from), goal = space.state_of(*q.to);
  auto route = std::make_shared<Route>();
  if (q.from == q.to || same_everywhere(space, source, goal)) {
    route->peak_bytes = space.worst(source) * element_bytes;
    if (limit > 0 && route->peak_bytes > limit) refuse_limit(limit, route->peak_bytes);
    if (q.from != q.to) add_relabel(*route, q.from, q.to);
    return route;
  }
  const bool few = std::popcount(space.active()) <= kExactAxes;
  const Found cheapest = search(space, costs, source, goal, few ? 0 : kMostEffort);
  if (limit == 0 || cheapest.peak_bytes <= limit) {
    *route = route_of(space, cheapest, q.from, q.to, element_bytes);
  } else {
    auto best = route_in_chunks(q, limit);
    if (const auto found = search_within(space, costs, source, goal, limit)) {
      Route whole = route_of(space, *found, q.from, q.to, element_bytes);
      if (!best || !before(*best, whole)) best = std::move(whole);
    }
    if (!best) {
      const std::int64_t least = search_smallest(space, costs, source, goal).peak_bytes;
      refuse_limit(limit, std::min(least, least_peak_in_chunks(q).value_or(least)));
    }
    *route = std::move(*best);
  }
  const Received least = least_received(space, source, goal);
  route->lower_bound_max = least.max * element_bytes;
  route->lower_bound_total = least.total * element_bytes;
  return route;
}

struct Key {
  LayoutRef from, to;
  Shape shape;
  Dtype dtype = Dtype::f32;
  std::uint64_t topology = 0;
  std::int64_t limit = 0;
  friend bool operator==(const Key&, const Key&) = default;
  std::uint64_t hash() const noexcept {
    std::uint64_t h = base::mix(from->hash, to->hash);
    for (std::int64_t n : shape) h = base::mix(h, static_cast<std::uint64_t>(n));
    h = base::mix(h, (topology << 3) ^ static_cast<std::uint64_t>(dtype));
    return base::mix(h, static_cast<std::uint64_t>(limit));
  }
  static std::size_t bytes() noexcept { return 0; }
};

constexpr std::size_t kShards = 16, kGeneration = 256;

std::vector<std::unique_ptr<RouteCache<Key>>>& shards() {
  // Layouts refer to a table that is never destroyed, so the routes may stay as well.
  static auto* const all = [] {
    auto* made = new std::vector<std::unique_ptr<RouteCache<Key>>>;
    for (std::size_t i = 0; i < kShards; ++i) made->push_back(std::make_unique<RouteCache<Key>>(kGeneration));
    return made;
  }();
  return *all;
}
RouteCache<Key>& shard_of(std::uint64_t hash) { return *shards()[(hash >> 20) % kShards]; }

std::uint64_t hash_of(const AxisLink& link, std::uint64_t seed) {
  const std::uint64_t h = base::mix(base::mix(seed, std::bit_cast<std::uint64_t>(link.latency_ns)), std::bit_cast<std::uint64_t>(link.bytes_per_ns));
  return base::mix(h, link.shared ? 1 : 0);
}

void check(const Layout& from, const Layout& to, const Shape& shape, std::int64_t limit) {
  if (from.mesh_sizes != to.mesh_sizes)
    base::fail<InvalidArgument>("redistribute: the layouts are of different meshes ([{}], [{}]); give both for one mesh",
                                fmt::join(from.mesh_sizes, ", "), fmt::join(to.mesh_sizes, ", "));
  if (from.ndim() != to.ndim() || from.ndim() != shape.ndim())
    base::fail<InvalidArgument>("redistribute: numbers of dimensions differ (source {}, target {}, shape {}); give layouts of the tensor",
                                from.ndim(), to.ndim(), to_string(shape));
  if (limit < 0) base::fail<InvalidArgument>("redistribute: the memory limit is negative ({}); give bytes, or 0 for none", limit);
}

}  // namespace

Route route_of(const Space& space, const Found& found, const LayoutRef& from, const LayoutRef& to, std::int64_t element_bytes) {
  Route route;
  const std::vector<Step> steps = joined(found.steps);
  route.peak_bytes = found.peak_bytes;
  route.gap_nanoseconds = found.gap;
  for (const Step& step : steps) {
    Move move = move_of(space, step, element_bytes);
    move.from = route.moves.empty() ? from : route.moves.back().to;
    move.to = &step == &steps.back() ? to : space.layout_of(step.to);
    route.nanoseconds += move.nanoseconds;
    route.launches += move.launches;
    route.bytes_received_max += move.bytes_received_max;
    route.bytes_received_total += move.bytes_received_total;
    route.moves.push_back(std::move(move));
  }
  if (route.launches > 1) route.bytes_received_max = worst_received(space, steps, route.bytes_received_max / element_bytes) * element_bytes;
  return route;
}

std::string_view to_string(MoveKind kind) noexcept {
  constexpr std::array<std::string_view, 12> names{"relabel",    "slice",      "to_partial", "shard_to_partial", "all_gather", "reduce_scatter",
                                                   "all_reduce", "all_to_all", "permute",    "send_recv",        "transfer",   "window"};
  return names[static_cast<std::size_t>(kind)];
}

std::uint64_t hash_of(const Topology& topology) {
  std::uint64_t h = hash_of(topology.fallback, topology.axes.size());
  for (const AxisLink& link : topology.axes) h = hash_of(link, h);
  return base::mix(base::mix(h, std::bit_cast<std::uint64_t>(topology.copy_bytes_per_ns)), std::bit_cast<std::uint64_t>(topology.launch_ns));
}

const Topology& reference_topology() {
  // Neutral between machines: what matters is that a launch costs as much as some 25 KiB, and that links and copies are of one order.
  static const Topology topology{{}, {2000, 10}, 20, 500};
  return topology;
}

RouteTable route_table() {
  RouteTable table;
  for (const auto& shard : shards()) shard->add_to(table);
  add_routes_between(table);
  return table;
}

RouteRef plan_route(const LayoutRef& from, const LayoutRef& to, const Shape& shape, Dtype dtype, const Topology& topology,
                    std::int64_t memory_limit) {
  check(*from, *to, shape, memory_limit);
  return plan({from, to, shape, dtype, &topology}, memory_limit);
}

RouteRef find_route(const LayoutRef& from, const LayoutRef& to, const Shape& shape, Dtype dtype, const Topology& topology,
                    std::int64_t memory_limit) {
  check(*from, *to, shape, memory_limit);
  const Key key{from, to, shape, dtype, hash_of(topology), memory_limit};
  RouteCache<Key>& shard = shard_of(key.hash());
  if (RouteRef known = shard.find(key)) return known;
  RouteRef route = plan({from, to, shape, dtype, &topology}, memory_limit);
  shard.insert(key, route);
  return route;
}

}  // namespace dtensor::redistribute
