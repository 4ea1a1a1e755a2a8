// SPDX-License-Identifier: Apache-2.0
#include "redistribute/plan/figures.h"

#include <algorithm>
#include <cmath>

#include "base/error_text.h"
#include "redistribute/plan/overlap.h"

namespace dtensor::redistribute {
namespace {

std::int64_t ceil_div(std::int64_t n, std::int64_t k) { return (n + k - 1) / k; }
std::int64_t rounded_up(double x) { return static_cast<std::int64_t>(std::ceil(x)); }

std::span<const Run> runs_of(const Space& space, const ListNode& list, const Shape& c) {
  const std::size_t r = space.rank_index(list, c);
  return {list.runs.data() + list.first[r], list.first[r + 1] - list.first[r]};
}
std::int64_t count_of(const Space& space, const ListNode& list, const Shape& c) { return list.counts[space.rank_index(list, c)]; }

// Dimensions that a move leaves alone factor out of every count.
struct Changed {
  std::array<int, kMaxDims> dims{};
  int count = 0;
  AxisMask axes = 0;            // that split a changed dimension, before or after
  AxisMask kept_axes = 0;       // that split an unchanged one
  std::int64_t kept_worst = 1;  // product over unchanged dimensions of the largest local size
  std::int64_t kept_total = 1;  // ... of the global size, which is the sum over the ranks of its axes

  Changed(const Space& space, const State& from, const State& to) {
    for (int d = 0; d < space.ndim(); ++d) {
      const auto i = static_cast<std::size_t>(d);
      const ListNode &a = space.node(from.lists[i]), &b = space.node(to.lists[i]);
      if (from.lists[i] == to.lists[i]) {
        kept_worst *= a.worst;
        kept_total *= space.shape()[d];
        kept_axes |= a.axes;
      } else {
        dims[static_cast<std::size_t>(count++)] = d;
        axes |= a.axes | b.axes;
      }
    }
  }
  struct Sizes {
    std::int64_t target = 1, common = 1;
  };
  Sizes sizes(const Space& space, const State& from, const State& to, const Shape& c) const {
    Sizes s;
    for (int k = 0; k < count; ++k) {
      const auto d = static_cast<std::size_t>(dims[static_cast<std::size_t>(k)]);
      const ListNode &a = space.node(from.lists[d]), &b = space.node(to.lists[d]);
      s.target *= count_of(space, b, c);
      s.common *= overlap_size(runs_of(space, a, c), runs_of(space, b, c));
    }
    return s;
  }
};

// Steps through the coordinates on `axes`; false after the last.
bool next_coordinates(const Space& space, AxisMask axes, Shape& c) {
  for (int a = space.mesh_ndim() - 1; a >= 0; --a) {
    if (!(axes & bit(a))) continue;
    if (++c[a] < space.mesh_size(a)) return true;
    c[a] = 0;
  }
  return false;
}

Received received_all_reduce(const Space& space, const State& from, const State& to) {
  const std::int64_t n = space.ranks_of(reduced_axes(space, from, to)), local = space.worst(from);
  const std::int64_t groups = space.ranks_of(space.active() & ~space.split_axes(from)) / n;
  return {(n - 2) * ceil_div(local, n) + local, 2 * (n - 1) * space.shape().numel() * groups};
}

std::int64_t local_numel(const Space& space, const State& state, const Shape& c) {
  std::int64_t n = 1;
  for (int d = 0; d < space.ndim(); ++d) n *= count_of(space, space.node(state.lists[static_cast<std::size_t>(d)]), c);
  return n;
}

AxisMask newly_partial(const Space& space, const State& from, const State& to) noexcept {
  AxisMask axes = 0;
  for (int a = 0; a < space.mesh_ndim(); ++a) {
    const auto i = static_cast<std::size_t>(a);
    if (to.partial[i] != 0 && to.partial[i] != from.partial[i]) axes |= bit(a);
  }
  return axes;
}

// Without Partial in the source: what the ranks lack. Ranks along an axis that becomes Partial share one task.
Received lacking(const Space& space, const State& from, const State& to, AxisMask shared) {
  const Changed changed(space, from, to);
  const AxisMask own = changed.axes & ~shared, joint = changed.axes & shared;
  Shape c = Shape::filled(space.mesh_ndim(), 0);
  Received r;
  do {
    std::int64_t target = 0, common = 0;
    do {
      const Changed::Sizes s = changed.sizes(space, from, to, c);
      target = s.target;
      common += s.common;
    } while (next_coordinates(space, joint, c));
    r.max = std::max(r.max, target - common);
    r.total += target - common;
  } while (next_coordinates(space, own, c));
  r.max *= changed.kept_worst;
  r.total *= changed.kept_total * space.ranks_of(space.active() & ~changed.axes & ~changed.kept_axes & ~shared);
  return r;
}

}  // namespace

AxisMask reduced_axes(const Space& space, const State& from, const State& to) noexcept {
  AxisMask axes = 0;
  for (int a = 0; a < space.mesh_ndim(); ++a) {
    const auto i = static_cast<std::size_t>(a);
    if (from.partial[i] != 0 && to.partial[i] != from.partial[i]) axes |= bit(a);
  }
  return axes;
}

Received received(const Space& space, MoveKind kind, const State& from, const State& to) {
  if (kind < MoveKind::all_gather) return {};
  if (kind == MoveKind::all_reduce) return received_all_reduce(space, from, to);
  const std::int64_t contributions = space.ranks_of(reduced_axes(space, from, to));
  const Changed changed(space, from, to);
  Shape c = Shape::filled(space.mesh_ndim(), 0);
  Received r;
  do {
    const Changed::Sizes s = changed.sizes(space, from, to, c);
    const std::int64_t lacks = contributions * s.target - s.common;
    r.max = std::max(r.max, lacks);
    r.total += lacks;
  } while (next_coordinates(space, changed.axes, c));
  r.max *= changed.kept_worst;
  r.total *= changed.kept_total * space.ranks_of(space.active() & ~changed.axes & ~changed.kept_axes);
  return r;
}

std::int64_t received_by(const Space& space, MoveKind kind, const State& from, const State& to, const Shape& coordinates) {
  if (kind < MoveKind::all_gather) return 0;
  const AxisMask reduced = reduced_axes(space, from, to);
  const std::int64_t n = space.ranks_of(reduced), target = local_numel(space, to, coordinates);
  if (kind != MoveKind::all_reduce) {
    std::int64_t common = 1;
    for (std::size_t d = 0; d < static_cast<std::size_t>(space.ndim()); ++d)
      common *= overlap_size(runs_of(space, space.node(from.lists[d]), coordinates), runs_of(space, space.node(to.lists[d]), coordinates));
    return n * target - common;
  }
  std::int64_t self = 0;
  for (int a = 0; a < space.mesh_ndim(); ++a)
    if (reduced & bit(a)) self = self * space.mesh_size(a) + coordinates[a];
  const std::int64_t chunk = ceil_div(target, n);
  const std::int64_t own = std::min(target, (self + 1) * chunk) - std::min(target, self * chunk);
  return (n - 2) * own + target;
}

Received least_received(const Space& space, const State& from, const State& to) {
  const AxisMask shared = newly_partial(space, from, to);
  const std::int64_t ranks = space.ranks_of(space.active()), contributions = space.ranks_of(reduced_axes(space, from, to));
  Received r;
  if (contributions > 1) {
    AxisMask kept = 0;
    for (int a = 0; a < space.mesh_ndim(); ++a)
      if (to.partial[static_cast<std::size_t>(a)] != 0 && !(shared & bit(a))) kept |= bit(a);
    const std::int64_t replicas = space.ranks_of(space.active() & ~space.split_axes(to) & ~kept & ~shared);
    r.total = space.shape().numel() * (contributions - 1 + replicas - 1) * space.ranks_of(kept);
    r.max = ceil_div(space.worst(to), space.ranks_of(shared));
  } else {
    r = lacking(space, from, to, shared);
    r.max = ceil_div(r.max, space.ranks_of(shared));
  }
  r.max = std::max(r.max, ceil_div(r.total, ranks));
  return r;
}

Costs::Costs(const Topology& topology, const Space& space, std::int64_t element_bytes) : topology_(topology), element_bytes_(element_bytes) {
  if (!topology.axes.empty() && topology.axes.size() != static_cast<std::size_t>(space.mesh_ndim()))
    base::fail<InvalidArgument>("topology: one link per mesh axis is needed ({} links, {} axes); give as many, or none and a fallback",
                                topology.axes.size(), space.mesh_ndim());
  const auto positive = [](std::string_view what, double value) {
    if (!(value > 0)) base::fail<InvalidArgument>("topology: {} must be positive ({}); correct the figure", what, value);
  };
  const auto not_negative = [](std::string_view what, double value) {
    if (!(value >= 0) || std::isinf(value))
      base::fail<InvalidArgument>("topology: {} must be finite and not negative ({}); correct the figure", what, value);
  };
  positive("copy_bytes_per_ns", topology.copy_bytes_per_ns);
  not_negative("launch_ns", topology.launch_ns);
  launch_ = rounded_up(topology.launch_ns);
  double latency = -1;
  for (int a = 0; a < space.mesh_ndim(); ++a) {
    positive("bytes_per_ns", link(a).bytes_per_ns);
    not_negative("latency_ns", link(a).latency_ns);
    if (!(space.active() & bit(a))) continue;
    latency = latency < 0 ? link(a).latency_ns : std::min(latency, link(a).latency_ns);
    best_bandwidth_ = std::max(best_bandwidth_, link(a).bytes_per_ns);
  }
  least_latency_ = latency < 0 ? 0 : rounded_up(latency);
}

const AxisLink& Costs::link(int axis) const noexcept {
  return topology_.axes.empty() ? topology_.fallback : topology_.axes[static_cast<std::size_t>(axis)];
}

std::int64_t Costs::writing(std::int64_t elements) const {
  return rounded_up(static_cast<double>(elements * element_bytes_) / topology_.copy_bytes_per_ns);
}

std::int64_t Costs::communication(const Space& space, MoveKind kind, AxisMask axes, const State& from, const State& to, Received elements) const {
  double latency = 0, bandwidth = 0;
  for (int a = 0; a < space.mesh_ndim(); ++a) {
    if (!(axes & bit(a))) continue;
    latency = std::max(latency, link(a).latency_ns);
    const double divided_by = link(a).shared ? static_cast<double>(space.ranks_of(axes) / space.mesh_size(a)) : 1;
    bandwidth = bandwidth == 0 ? link(a).bytes_per_ns / divided_by : std::min(bandwidth, link(a).bytes_per_ns / divided_by);
  }
  const std::int64_t n = space.ranks_of(reduced_axes(space, from, to)), target = space.worst(to);
  const std::int64_t touched = kind == MoveKind::all_reduce ? n * ceil_div(target, n) + target : n * target;
  const std::int64_t transfer = bandwidth == 0 ? 0 : rounded_up(static_cast<double>(elements.max * element_bytes_) / bandwidth);
  return launch_ + rounded_up(latency) * (kind == MoveKind::send_recv ? 2 : 1) + transfer + writing(touched);
}

std::int64_t Costs::least(const Space& space, const State& from, const State& to) const {
  const Received bound = least_received(space, from, to);
  // Neutral elements for a new sum or product are written by a move of their own, over all of the target at least.
  std::int64_t cost = 0;
  for (int a = 0; a < space.mesh_ndim(); ++a) {
    const std::uint8_t before = from.partial[static_cast<std::size_t>(a)], after = to.partial[static_cast<std::size_t>(a)];
    const bool fills = after == 1 + static_cast<int>(ReduceOp::sum) || after == 1 + static_cast<int>(ReduceOp::product);
    if (fills && before != after) cost = writing(space.worst(to));
  }
  if (bound.total == 0) return cost;
  const std::int64_t bytes = bound.max * element_bytes_;
  // Every received element is touched; and after the last move that writes only views follow, so it wrote all of the target.
  const std::int64_t touched = cost > 0 ? bytes : std::max(bytes, space.worst(to) * element_bytes_);
  return cost + launch_ + least_latency_ + static_cast<std::int64_t>(static_cast<double>(bytes) / best_bandwidth_) +
         static_cast<std::int64_t>(static_cast<double>(touched) / topology_.copy_bytes_per_ns);
}

}  // namespace dtensor::redistribute
