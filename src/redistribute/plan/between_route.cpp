// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>
#include <utility>

#include "base/error_text.h"
#include "mesh/mesh_data.h"
#include "redistribute/plan/between.h"
#include "redistribute/plan/links.h"

namespace dtensor::redistribute {
namespace {

std::int64_t time_of(double amount, double per_ns) { return static_cast<std::int64_t>(std::ceil(amount / per_ns)); }

// The axes of more than one rank that are Replicate, Partial, or either.
std::vector<int> free_axes(const Layout& layout, bool replicate, bool partial) {
  std::vector<int> axes;
  for (int a = 0; a < layout.mesh_ndim(); ++a) {
    const auto i = static_cast<std::size_t>(a);
    if (layout.mesh_sizes[i] > 1 && layout.dim_of(a) < 0 && (layout.partial[i] ? partial : replicate)) axes.push_back(a);
  }
  return axes;
}

// `axes` as Replicate (dim -1), or as the last splits of a dimension.
LayoutRef with_axes(const LayoutRef& layout, const std::vector<int>& axes, int dim) {
  Layout l = *layout;
  for (int a : axes) {
    l.partial[static_cast<std::size_t>(a)].reset();
    if (dim >= 0) l.dims[static_cast<std::size_t>(dim)].push_back({{a}, 1, {}});
  }
  return placements::intern(std::move(l));
}

std::vector<LayoutRef> source_layouts(const LayoutRef& from) {
  std::vector<LayoutRef> result{from};
  const std::vector<int> axes = free_axes(*from, false, true);
  if (axes.empty()) return result;
  for (int d = -1; d < from->ndim(); ++d) result.push_back(with_axes(from, axes, d));
  return result;
}

std::vector<LayoutRef> target_layouts(const LayoutRef& to, bool contributions) {
  std::vector<LayoutRef> result{to};
  const std::vector<int> replicate = free_axes(*to, true, false), partial = free_axes(*to, false, true);
  for (int d = 0; d < to->ndim(); ++d) {
    if (contributions && !replicate.empty()) result.push_back(with_axes(to, replicate, d));
    if (!partial.empty()) result.push_back(with_axes(to, partial, d));
    if (!partial.empty() && !replicate.empty()) result.push_back(with_axes(to, free_axes(*to, true, true), d));
  }
  return result;
}

// Elements that the rank at `c` receives from others in a move within one mesh.
std::int64_t received_in(const Move& move, const Shape& shape, const Shape& c) {
  if (move.launches == 0) return 0;
  std::int64_t self = 0, n = 1;
  for (int a : move.axes) {
    self = self * move.from->mesh_sizes[static_cast<std::size_t>(a)] + c[a];
    n *= move.from->mesh_sizes[static_cast<std::size_t>(a)];
  }
  if (move.kind == MoveKind::all_reduce) return received_in_all_reduce(placements::local_shape(*move.to, shape, c).numel(), n, self);
  return received_from_others(lower(move, shape, c), static_cast<int>(self));
}

struct Candidate {
  RouteRef before, after;
  Move transfer;
  std::int64_t nanoseconds = 0, peak_bytes = 0;
  int launches = 0;
  auto order() const { return std::tie(nanoseconds, launches, peak_bytes); }
};

class Family {
 public:
  Family(const End& from, const End& to, const Shape& shape, Dtype dtype, const LinksBetween& links)
      : from_(from), to_(to), shape_(shape), dtype_(dtype), links_(links), bytes_(info(dtype).bytes) {}

  RouteRef best(std::int64_t limit) {
    std::optional<Candidate> chosen;
    std::int64_t least_peak = -1;
    for (const LayoutRef& source : source_layouts(from_.layout))
      for (const LayoutRef& target : target_layouts(to_.layout, !free_axes(*source, false, true).empty())) {
        Candidate c = candidate(source, target);
        least_peak = least_peak < 0 ? c.peak_bytes : std::min(least_peak, c.peak_bytes);
        if (limit > 0 && c.peak_bytes > limit) continue;
        if (!chosen || c.order() < chosen->order()) chosen = std::move(c);
      }
    if (!chosen)
      base::fail<InvalidArgument>("redistribute: the memory limit cannot be met ({} bytes, the least peak is {}); raise it to {}", limit, least_peak,
                                  least_peak);
    return route_of(*chosen);
  }

 private:
  Candidate candidate(const LayoutRef& source, const LayoutRef& target) {
    Candidate c;
    c.before = find_route(from_.layout, source, shape_, dtype_, links_.from);
    c.after = find_route(target, to_.layout, shape_, dtype_, links_.to);
    const Between between({source, from_.ranks}, {target, to_.ranks}, shape_);
    if (source == from_.layout && target == to_.layout) least_ = between.least_received();
    Move& m = c.transfer;
    m.kind = MoveKind::transfer;
    m.from = source;
    m.to = target;
    m.bytes_received_max = between.received().max * bytes_;
    m.bytes_received_total = between.received().total * bytes_;
    m.launches = between.communicates() ? 1 : 0;
    m.nanoseconds = time_of(static_cast<double>(between.touched() * bytes_), links_.from.copy_bytes_per_ns);
    if (m.launches > 0)
      m.nanoseconds += time_of(links_.from.launch_ns, 1) + 2 * time_of(links_.transfer.latency_ns, 1) +
                       time_of(static_cast<double>(m.bytes_received_max), links_.transfer.bytes_per_ns);
    c.nanoseconds = c.before->nanoseconds + m.nanoseconds + c.after->nanoseconds;
    c.launches = c.before->launches + m.launches + c.after->launches;
    c.peak_bytes = peak(c, between);
    return c;
  }

  // The source stays throughout; an intermediate goes when what was made of it is no view.
  std::int64_t peak(const Candidate& c, const Between& between) const {
    const bool moved = !c.before->moves.empty(), view = between.views();
    std::int64_t during = 0, beside = 0;
    for (int rank : between.group()) {
      const int own = between.from().find(rank), target = between.to().find(rank);
      const std::int64_t middle = own < 0 ? 0 : between.from().numel(between.from().held(own));
      const std::int64_t source =
          own < 0 || !moved ? middle : placements::local_shape(*from_.layout, shape_, coordinates_of(*from_.layout, own)).numel();
      const std::int64_t result = target < 0 ? 0 : between.to().numel(between.to().held(target));
      const bool shares = view && !between.fill(rank);
      during = std::max(during, source + (moved ? middle : 0) + (shares ? 0 : result));
      const std::int64_t held = source + (shares ? (moved ? middle : 0) : result);
      if (target >= 0) beside = std::max(beside, held - result);
    }
    const std::int64_t peak = std::max(c.before->peak_bytes, during * bytes_);
    // The result is the source of the moves that follow.
    return c.after->moves.empty() ? peak : std::max(peak, beside * bytes_ + c.after->peak_bytes);
  }

  // What the rank that receives most over the whole route receives.
  std::int64_t worst_received(const Candidate& c, const Between& between) const {
    std::int64_t worst = 0;
    for (int rank : between.group()) {
      std::int64_t elements = between.received_by(rank);
      const int own = between.from().find(rank), target = between.to().find(rank);
      if (own >= 0)
        for (const Move& m : c.before->moves) elements += received_in(m, shape_, coordinates_of(*m.from, own));
      if (target >= 0)
        for (const Move& m : c.after->moves) elements += received_in(m, shape_, coordinates_of(*m.from, target));
      worst = std::max(worst, elements);
    }
    return worst;
  }

  RouteRef route_of(const Candidate& c) const {
    auto route = std::make_shared<Route>();
    const auto add = [&](const Move& m) {
      route->moves.push_back(m);
      route->bytes_received_total += m.bytes_received_total;
    };
    for (const Move& m : c.before->moves) add(m);
    add(c.transfer);
    for (const Move& m : c.after->moves) add(m);
    route->bytes_received_max = c.transfer.bytes_received_max;
    if (route->moves.size() > 1)
      route->bytes_received_max = worst_received(c, Between({c.transfer.from, from_.ranks}, {c.transfer.to, to_.ranks}, shape_)) * bytes_;
    route->nanoseconds = c.nanoseconds;
    route->launches = c.launches;
    route->peak_bytes = c.peak_bytes;
    route->lower_bound_max = least_.max * bytes_;
    route->lower_bound_total = least_.total * bytes_;
    return route;
  }

  const End& from_;
  const End& to_;
  const Shape& shape_;
  Dtype dtype_;
  const LinksBetween& links_;
  std::int64_t bytes_;
  Received least_;
};

}  // namespace

void check_worlds(const DeviceMesh& from, const DeviceMesh& to) {
  if (from.data().world_id != to.data().world_id)
    base::fail<InvalidArgument>("redistribute: meshes of different worlds ({} and {}); make both meshes from one World", to_string(from),
                                to_string(to));
}

LinksBetween links_between(const dtensor::Topology& topology, const mesh::MeshData& from, const mesh::MeshData& to) {
  // One axis over all ranks; links given by axis are of no use to it.
  dtensor::Topology across = topology;
  across.axes.clear();
  std::vector<int> ranks = from.ranks;
  ranks.insert(ranks.end(), to.ranks.begin(), to.ranks.end());
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  mesh::MeshData both;
  both.names = {"0"};
  both.sizes = {static_cast<int>(ranks.size())};
  both.ranks = std::move(ranks);
  const Topology links = links_of(across, both);
  return {links_of(topology, from), links_of(topology, to), links.axes.empty() ? links.fallback : links.axes[0]};
}

RouteRef find_route_between(const End& from, const End& to, const Shape& shape, Dtype dtype, const LinksBetween& links, std::int64_t memory_limit) {
  if (from.layout->ndim() != to.layout->ndim() || from.layout->ndim() != shape.ndim())
    base::fail<InvalidArgument>("redistribute: numbers of dimensions differ (source {}, target {}, shape {}); give layouts of the tensor",
                                from.layout->ndim(), to.layout->ndim(), to_string(shape));
  if (memory_limit < 0) base::fail<InvalidArgument>("redistribute: the memory limit is negative ({}); give bytes, or 0 for none", memory_limit);
  return Family(from, to, shape, dtype, links).best(memory_limit);
}

}  // namespace dtensor::redistribute
