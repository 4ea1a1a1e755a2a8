// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <utility>

#include "redistribute/plan/overlap.h"
#include "redistribute/plan/route.h"

namespace dtensor::redistribute {
namespace {

using placements::owned_runs;
using placements::Run;

enum class Direction : std::uint8_t { send, receive };

// What a mesh axis of the move does, seen from its source.
enum class AxisRole : std::uint8_t {
  outside,  // not in the move
  fixed,    // replicas (a receiver takes from the replica with its own coordinate) or one problem per coordinate
  split,    // a different part on every coordinate
  reduced,  // a contribution on every coordinate
};

struct AxisPlan {
  AxisRole role = AxisRole::outside;
  std::int64_t peer_stride = 0;
  bool first_only = false;  // Partial in the destination alone: the value goes to coordinate 0, the others hold neutral elements
};

bool keeps_value_on_first_rank(ReduceOp op) { return op == ReduceOp::sum || op == ReduceOp::product; }

struct Lowering {
  const Layout& from;
  const Layout& to;
  const Shape& shape;
  const Shape& coordinates;
  std::array<AxisPlan, kMaxDims> axes{};

  Lowering(const Move& move, const Shape& s, const Shape& c) : from(*move.from), to(*move.to), shape(s), coordinates(c) {
    std::int64_t stride = 1;
    for (auto it = move.axes.rbegin(); it != move.axes.rend(); ++it) {
      const auto a = static_cast<std::size_t>(*it);
      AxisPlan& plan = axes[a];
      plan.peer_stride = stride;
      stride *= from.mesh_sizes[a];
      if (from.dim_of(*it) >= 0) plan.role = AxisRole::split;
      else if (from.partial[a] && from.partial[a] != to.partial[a]) plan.role = AxisRole::reduced;
      else plan.role = AxisRole::fixed;
    }
    for (std::size_t a = 0; a < from.mesh_sizes.size(); ++a)
      axes[a].first_only = to.partial[a] && from.partial[a] != to.partial[a] && keeps_value_on_first_rank(*to.partial[a]);
  }
  int mesh_ndim() const { return from.mesh_ndim(); }
  const AxisPlan& axis(int a) const { return axes[static_cast<std::size_t>(a)]; }
  std::int64_t mesh_size(int a) const { return from.mesh_sizes[static_cast<std::size_t>(a)]; }
};

// One choice of the peer's coordinates on the axes of one dimension, and what is shared with it there.
struct Option {
  std::int64_t peer = 0;
  std::vector<Overlap> parts;
};

// Calls visit(coordinates) for every value of the coordinates on `varying`, first axis slowest.
template <class Visit>
void for_each_coordinate(const Lowering& plan, std::span<const int> varying, Shape coordinates, Visit&& visit) {
  if (varying.empty()) {
    visit(coordinates);
    return;
  }
  for (std::int64_t i = 0; i < plan.mesh_size(varying[0]); ++i) {
    coordinates[varying[0]] = i;
    for_each_coordinate(plan, varying.subspan(1), coordinates, visit);
  }
}

std::int64_t peer_along(const Lowering& plan, std::span<const int> along, const Shape& coordinates) {
  std::int64_t peer = 0;
  for (int a : along) peer += coordinates[a] * plan.axis(a).peer_stride;
  return peer;
}

std::vector<Option> options_of(const Lowering& plan, int dim, Direction direction) {
  const bool sending = direction == Direction::send;
  const Layout& theirs = sending ? plan.to : plan.from;
  const std::int64_t n = plan.shape[dim];
  std::vector<int> varying;
  for (const placements::Split& split : theirs.dims[static_cast<std::size_t>(dim)])
    for (int a : split.axes)
      if (plan.axis(a).role == AxisRole::split || plan.axis(a).role == AxisRole::reduced) varying.push_back(a);
  std::sort(varying.begin(), varying.end());
  const std::vector<Run> mine = owned_runs(sending ? plan.from : plan.to, dim, n, plan.coordinates);
  const bool comb = 2 * plan.shape.ndim() <= kMaxDims;
  std::vector<Option> result;
  if (mine.empty()) return result;
  for_each_coordinate(plan, varying, plan.coordinates, [&](const Shape& c) {
    const std::vector<Run> other = owned_runs(theirs, dim, n, c);
    std::vector<Overlap> parts = sending ? overlaps(mine, other) : overlaps(other, mine);
    if (parts.empty()) return;
    result.push_back({peer_along(plan, varying, c), comb ? combed(parts) : std::move(parts)});
  });
  return result;
}

// Peers that differ in axes of no dimension: the contributors of a receive, the replicas of a send. Ascending.
std::vector<std::int64_t> free_peers(const Lowering& plan, Direction direction) {
  std::vector<int> varying;
  std::int64_t base = 0;
  Shape start = plan.coordinates;
  for (int a = 0; a < plan.mesh_ndim(); ++a) {
    const AxisPlan& axis = plan.axis(a);
    if (axis.role == AxisRole::outside) continue;
    if (axis.role == AxisRole::fixed) {
      base += plan.coordinates[a] * axis.peer_stride;
    } else if (direction == Direction::receive) {
      if (axis.role == AxisRole::reduced) varying.push_back(a);
    } else if (plan.to.dim_of(a) < 0 && !axis.first_only) {
      varying.push_back(a);
    }
  }
  // Ascending peers need the slowest axis of the group first.
  std::sort(varying.begin(), varying.end(), [&](int a, int b) { return plan.axis(a).peer_stride > plan.axis(b).peer_stride; });
  std::vector<std::int64_t> peers;
  for_each_coordinate(plan, varying, start, [&](const Shape& c) { peers.push_back(base + peer_along(plan, varying, c)); });
  return peers;
}

// A rank that must hold neutral elements takes no part as a receiver; nor does a sender whose only receivers are such ranks.
bool takes_part(const Lowering& plan, Direction direction) {
  for (int a = 0; a < plan.mesh_ndim(); ++a) {
    if (!plan.axis(a).first_only || plan.coordinates[a] == 0) continue;
    const AxisRole role = plan.axis(a).role;
    if (direction == Direction::receive || role == AxisRole::outside || role == AxisRole::fixed) return false;
  }
  return true;
}

struct Emitter {
  Direction direction;
  const Shape& strides;  // of this rank's local tensor
  std::vector<Piece>& out;

  void boxes(std::span<const Option* const> chosen, std::size_t dim, Piece box, std::span<const std::int64_t> peers) {
    if (dim == chosen.size()) {
      const std::int64_t base = box.peer;
      for (std::int64_t peer : peers) {
        box.peer = static_cast<int>(base + peer);
        out.push_back(box);
      }
      return;
    }
    const std::int64_t stride = strides[dim];
    for (const Overlap& part : chosen[dim]->parts) {
      Piece next = box;
      const bool sending = direction == Direction::send;
      next.offset += (sending ? part.from : part.to) * stride;
      if (part.count > 1) {
        next.sizes.push_back(part.count);
        next.strides.push_back((sending ? part.from_step : part.to_step) * stride);
      }
      next.sizes.push_back(part.length);
      next.strides.push_back(stride);
      boxes(chosen, dim + 1, next, peers);
    }
  }

  void combinations(std::span<const std::vector<Option>> options, std::vector<const Option*>& chosen, std::int64_t peer,
                    std::span<const std::int64_t> peers) {
    if (chosen.size() == options.size()) {
      Piece box;
      box.peer = static_cast<int>(peer);
      boxes(chosen, 0, box, peers);
      return;
    }
    for (const Option& option : options[chosen.size()]) {
      chosen.push_back(&option);
      combinations(options, chosen, peer + option.peer, peers);
      chosen.pop_back();
    }
  }
};

std::vector<Piece> pieces_of(const Lowering& plan, Direction direction, const Shape& own_strides) {
  std::vector<Piece> result;
  if (!takes_part(plan, direction)) return result;
  std::vector<std::vector<Option>> options;
  for (int d = 0; d < plan.shape.ndim(); ++d) {
    options.push_back(options_of(plan, d, direction));
    if (options.back().empty()) return result;
  }
  const Layout& own = direction == Direction::send ? plan.from : plan.to;
  const Shape strides = own_strides.empty() ? contiguous_strides(placements::local_shape(own, plan.shape, plan.coordinates)) : own_strides;
  const std::vector<std::int64_t> peers = free_peers(plan, direction);
  std::vector<const Option*> chosen;
  Emitter{direction, strides, result}.combinations(options, chosen, 0, peers);
  return result;
}

}  // namespace

Transfer lower(const Move& move, const Shape& shape, const Shape& coordinates, const Shape& source_strides) {
  const Lowering plan(move, shape, coordinates);
  return {pieces_of(plan, Direction::send, source_strides), pieces_of(plan, Direction::receive, {})};
}

Kept kept_runs(const Layout& from, const Layout& to, const Shape& shape, const Shape& coordinates) {
  Kept kept;
  for (int d = 0; d < shape.ndim(); ++d) {
    std::vector<Run>&source = kept.source.emplace_back(), &target = kept.target.emplace_back();
    for (const Overlap& part : overlaps(owned_runs(from, d, shape[d], coordinates), owned_runs(to, d, shape[d], coordinates))) {
      source.push_back({part.from, part.length});
      target.push_back({part.to, part.length});
    }
  }
  return kept;
}

std::vector<std::vector<Run>> local_runs(const Layout& from, const Layout& to, const Shape& shape, const Shape& coordinates) {
  std::vector<std::vector<Run>> result;
  for (int d = 0; d < shape.ndim(); ++d) {
    const std::vector<Run> source = owned_runs(from, d, shape[d], coordinates), target = owned_runs(to, d, shape[d], coordinates);
    std::vector<Run>& runs = result.emplace_back();
    for (const Overlap& part : overlaps(source, target)) {
      if (!runs.empty() && runs.back().begin + runs.back().length == part.from) runs.back().length += part.length;
      else runs.push_back({part.from, part.length});
    }
  }
  return result;
}

}  // namespace dtensor::redistribute
