// SPDX-License-Identifier: Apache-2.0
#include "redistribute/plan/figures.h"

#include <algorithm>
#include <cmath>

#include "base/error_text.h"

namespace dtensor::redistribute {
namespace {

std::int64_t rounded_up(double x) { return static_cast<std::int64_t>(std::ceil(x)); }

Received received_all_reduce(const Space& space, const State& from, const State& to) {
  const std::int64_t n = space.ranks_of(reduced_axes(space, from, to)), local = space.worst(from);
  const std::int64_t groups = space.ranks_of(space.active() & ~space.split_axes(from)) / n;
  return {(n - 2) * ceil_div(local, n) + local, 2 * (n - 1) * space.shape().numel() * groups};
}

std::int64_t local_numel(const Space& space, const State& state, const Shape& c) {
  std::int64_t n = 1;
  for (int d = 0; d < space.ndim(); ++d) n *= space.count(state.lists[static_cast<std::size_t>(d)], c);
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

// A quick part of least_received: what the worst rank receives at least; 0 is always right.
std::int64_t least_on_worst(const Space& space, const State& from, const State& to) {
  const AxisMask shared = newly_partial(space, from, to);
  const std::int64_t contributions = space.ranks_of(reduced_axes(space, from, to));
  if (contributions > 1) return least_received(space, from, to).max;
  if (shared != 0) {
    // Along these axes the ranks do the task of one: together they have at most what each has.
    const std::int64_t ranks = space.ranks_of(shared), target = space.worst(to);
    const std::int64_t common = target - lacking_at_least(space, from, to, 1).max;
    return ceil_div(std::max<std::int64_t>(0, target - ranks * common), ranks);
  }
  const Estimate quick = lacking_at_least(space, from, to, 1);
  if (quick.exact || quick.max > 0) return quick.max;
  return lacking(space, from, to, 1, false).max;
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
  return lacking(space, from, to, space.ranks_of(reduced_axes(space, from, to)), true);
}

Estimate received_at_least(const Space& space, MoveKind kind, const State& from, const State& to) {
  if (kind < MoveKind::all_gather) return {0, true};
  if (kind == MoveKind::all_reduce) return {received_all_reduce(space, from, to).max, true};
  const std::int64_t contributions = space.ranks_of(reduced_axes(space, from, to));
  if (kind == MoveKind::reduce_scatter) return {(contributions - 1) * space.worst(to), true};
  return lacking_at_least(space, from, to, contributions);
}

std::int64_t received_in_all_reduce(std::int64_t local, std::int64_t members, std::int64_t self) noexcept {
  const std::int64_t chunk = ceil_div(local, members);
  const std::int64_t own = std::min(local, (self + 1) * chunk) - std::min(local, self * chunk);
  return (members - 2) * own + local;
}

std::int64_t received_from_others(const Transfer& transfer, int self) noexcept {
  std::int64_t elements = 0;
  for (const Piece& p : transfer.receives)
    if (p.peer != self) elements += p.sizes.numel();
  return elements;
}

std::int64_t received_by(const Space& space, MoveKind kind, const State& from, const State& to, const Shape& coordinates) {
  if (kind < MoveKind::all_gather) return 0;
  const AxisMask reduced = reduced_axes(space, from, to);
  const std::int64_t n = space.ranks_of(reduced), target = local_numel(space, to, coordinates);
  if (kind != MoveKind::all_reduce) {
    std::int64_t common = 1;
    for (std::size_t d = 0; d < static_cast<std::size_t>(space.ndim()) && common != 0; ++d)
      common *= common_indices_at(space, from.lists[d], to.lists[d], coordinates);
    return n * target - common;
  }
  std::int64_t self = 0;
  for (int a = 0; a < space.mesh_ndim(); ++a)
    if (reduced & bit(a)) self = self * space.mesh_size(a) + coordinates[a];
  return received_in_all_reduce(target, n, self);
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
    r = shared == 0 ? lacking(space, from, to, 1, true) : lacking_together(space, from, to, shared);
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
    const std::int64_t groups = space.ranks_of(axes) / space.mesh_size(a);  // that go over the link at once
    const double own = link(a).bytes_per_ns / (link(a).shared ? static_cast<double>(groups) : 1);
    bandwidth = bandwidth == 0 ? own : std::min(bandwidth, own);
  }
  const std::int64_t n = space.ranks_of(reduced_axes(space, from, to)), target = space.worst(to);
  const std::int64_t touched = kind == MoveKind::all_reduce ? n * ceil_div(target, n) + target : n * target;
  const std::int64_t transfer = bandwidth == 0 ? 0 : rounded_up(static_cast<double>(elements.max * element_bytes_) / bandwidth);
  return launch_ + rounded_up(latency) * (kind == MoveKind::send_recv ? 2 : 1) + transfer + writing(touched);
}

std::int64_t Costs::writing_at_least(std::int64_t elements) const {
  return static_cast<std::int64_t>(static_cast<double>(elements * element_bytes_) / topology_.copy_bytes_per_ns);
}

std::int64_t Costs::receiving_at_least(std::int64_t elements) const {
  return elements <= 0 ? 0 : static_cast<std::int64_t>(static_cast<double>(elements * element_bytes_) / best_bandwidth_);
}

// Neutral elements are written with a tensor of x elements, at least a share; from there the target's worst rank receives the rest, besides what
// was received to combine contributions before. The least of a convex function of x: at an end, or where the other bound of what is received takes over.
std::int64_t Costs::filling_at_least(std::int64_t share, std::int64_t target, std::int64_t received, std::int64_t combined) const {
  const auto at = [&](std::int64_t x) { return writing_at_least(x) + receiving_at_least(std::max(received, combined + target - x)); };
  const std::int64_t kink = std::clamp(combined + target - received, std::min(share, target), target);
  return std::max<std::int64_t>(0, std::min({at(std::min(share, target)), at(target), at(kink)}) - 2);
}

Costs::Least Costs::least(const Space& space, const State& from, const State& to) const {
  const std::int64_t received = least_on_worst(space, from, to), target = space.worst(to), ranks = space.ranks_of(space.active());
  // Every move writes at least the smallest share that the splits allow: one that communicates never takes more axes than it finds.
  const std::int64_t share = ceil_div(space.shape().numel(), ranks);
  std::int64_t transfer = receiving_at_least(received);
  if (fills(from, to)) {
    const std::int64_t combined = (space.ranks_of(reduced_axes(space, from, to)) - 1) * space.shape().numel() / ranks;
    transfer = filling_at_least(share, target, received, combined);
  }
  // Every received element is touched, and the last move writes all of its result.
  return {least_start() + transfer + writing_at_least(std::max(received, target)),
          2 * least_start() + transfer + writing_at_least(std::max(received, target + share))};
}

bool Costs::fills(const State& from, const State& to) noexcept {
  for (std::size_t a = 0; a < to.partial.size(); ++a) {
    const std::uint8_t after = to.partial[a];
    if (after != from.partial[a] && (after == 1 + static_cast<int>(ReduceOp::sum) || after == 1 + static_cast<int>(ReduceOp::product))) return true;
  }
  return false;
}

std::int64_t Costs::least_after(const Space& space, const State& from, const State& to) const {
  // After the last such move only views follow, so it wrote all of the target. A part that becomes Partial is written under any kind.
  const bool written = fills(from, to) || (newly_partial(space, from, to) & space.split_axes(from)) != 0;
  return written ? writing(space.worst(to)) : 0;
}

std::int64_t Costs::least_last(const Space& space, const State& to) const { return least_start() + writing_at_least(space.worst(to)); }

}  // namespace dtensor::redistribute
