// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "base/error_text.h"
#include "base/hash.h"
#include "mesh/mesh_data.h"
#include "redistribute/plan/between.h"
#include "redistribute/plan/chunks.h"
#include "redistribute/plan/links.h"
#include "redistribute/plan/route_cache.h"

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

// The routes of one tensor, or of the slabs of `size` indices of dimension `dim` of it.
class Family {
 public:
  Family(const End& from, const End& to, const Shape& shape, Dtype dtype, const LinksBetween& links, int dim = -1, std::int64_t size = 0)
      : from_(from), to_(to), whole_(shape), shape_(shape), dtype_(dtype), links_(links), bytes_(info(dtype).bytes) {
    if (dim < 0) return;
    chunks_ = {static_cast<int>(ceil_div(shape[dim], size)), dim, size};
    shape_[dim] = size;
  }

  /// The first with a peak of at most `limit` (0: any); none where there is none.
  std::optional<Route> best(std::int64_t limit) {
    std::optional<Candidate> chosen;
    std::int64_t gap = 0;
    for_each_candidate([&](Candidate c) {
      // None is dearer than the one chosen, so that the widest gap holds for all.
      gap = std::max(gap, c.before->gap_nanoseconds + c.after->gap_nanoseconds);
      if (limit > 0 && c.peak_bytes > limit) return;
      if (!chosen || c.order() < chosen->order()) chosen = std::move(c);
    });
    if (!chosen) return {};
    Route route = route_of(*chosen);
    route.gap_nanoseconds = gap * chunks_.count;
    return route;
  }
  std::int64_t least_peak() {
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    for_each_candidate([&](const Candidate& c) { least = std::min(least, c.peak_bytes); });
    return least;
  }

 private:
  template <class Visit>
  void for_each_candidate(Visit&& visit) {
    for (const LayoutRef& source : source_layouts(from_.layout))
      for (const LayoutRef& target : target_layouts(to_.layout, !free_axes(*source, false, true).empty())) visit(candidate(source, target));
  }

  Candidate candidate(const LayoutRef& source, const LayoutRef& target) {
    Candidate c;
    c.before = find_route(from_.layout, source, shape_, dtype_, links_.from);
    c.after = find_route(target, to_.layout, shape_, dtype_, links_.to);
    const Between between({source, from_.ranks}, {target, to_.ranks}, shape_);
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

  std::int64_t local_numel(const End& end, const Shape& shape, int index) const {
    return index < 0 ? 0 : placements::local_shape(*end.layout, shape, coordinates_of(*end.layout, index)).numel();
  }

  // The source stays throughout; an intermediate goes when what was made of it is no view. With slabs both ends are there as wholes, and a slab of the
  // source is a view.
  std::int64_t peak(const Candidate& c, const Between& between) const {
    const bool moved = !c.before->moves.empty(), view = between.views(), slabs = chunks_.count > 1;
    std::int64_t during = 0, beside = 0, ends = 0;
    for (int rank : between.group()) {
      const int own = between.from().find(rank), target = between.to().find(rank);
      const std::int64_t middle = own < 0 ? 0 : between.from().numel(between.from().held(own));
      const std::int64_t part = local_numel(from_, shape_, own),
                         extra = slabs ? local_numel(from_, whole_, own) + local_numel(to_, whole_, target) - part : 0;
      const std::int64_t source = part + extra;
      const std::int64_t result = target < 0 ? 0 : between.to().numel(between.to().held(target));
      const bool shares = view && !between.fill(rank);
      during = std::max(during, source + (moved ? middle : 0) + (shares ? 0 : result));
      const std::int64_t held = source + (shares ? (moved ? middle : 0) : result);
      if (target >= 0) beside = std::max(beside, held - result);
      if (own >= 0) ends = std::max(ends, extra);
    }
    const std::int64_t peak = std::max(ends * bytes_ + c.before->peak_bytes, during * bytes_);
    // The result is the source of the moves that follow.
    return c.after->moves.empty() ? peak : std::max(peak, beside * bytes_ + c.after->peak_bytes);
  }

  // What every rank receives of a tensor of `shape` in each move of `route`: elements, by rank and move.
  std::vector<std::vector<std::int64_t>> received_of(const Route& route, const Candidate& c, const Shape& shape) const {
    const Between between({c.transfer.from, from_.ranks}, {c.transfer.to, to_.ranks}, shape);
    std::vector<std::vector<std::int64_t>> received;
    for (int rank : between.group()) {
      const int own = between.from().find(rank), target = between.to().find(rank);
      bool arrived = false;
      auto& elements = received.emplace_back();
      for (const Move& m : route.moves) {
        const int index = arrived ? target : own;
        if (m.kind == MoveKind::transfer) elements.push_back(between.received_by(rank));
        else elements.push_back(index < 0 ? 0 : received_in(m, shape, coordinates_of(*m.from, index)));
        arrived = arrived || m.kind == MoveKind::transfer;
      }
    }
    return received;
  }

  void count_bytes(Route& route, const Candidate& c) const {
    Shape rest = shape_;
    const std::int64_t slabs = chunks_.count > 1 ? whole_[chunks_.dim] / chunks_.size : 1;
    if (chunks_.count > 1) rest[chunks_.dim] = whole_[chunks_.dim] % chunks_.size;
    const auto full = received_of(route, c, shape_);
    const auto last = chunks_.count > 1 ? received_of(route, c, rest) : decltype(full)();
    for (Move& m : route.moves) m.bytes_received_max = m.bytes_received_total = 0;
    for (std::size_t r = 0; r < full.size(); ++r) {
      std::int64_t sum = 0;
      for (std::size_t i = 0; i < route.moves.size(); ++i) {
        const std::int64_t bytes = (slabs * full[r][i] + (last.empty() ? 0 : last[r][i])) * bytes_;
        route.moves[i].bytes_received_max = std::max(route.moves[i].bytes_received_max, bytes);
        route.moves[i].bytes_received_total += bytes;
        sum += bytes;
      }
      route.bytes_received_max = std::max(route.bytes_received_max, sum);
      route.bytes_received_total += sum;
    }
  }

  Route route_of(const Candidate& c) const {
    Route route;
    route.moves = c.before->moves;
    route.moves.push_back(c.transfer);
    route.moves.insert(route.moves.end(), c.after->moves.begin(), c.after->moves.end());
    route.chunks = chunks_;
    route.nanoseconds = c.nanoseconds;
    route.launches = c.launches;
    route.peak_bytes = c.peak_bytes;
    if (route.moves.size() == 1 && chunks_.count == 1) {
      route.bytes_received_max = c.transfer.bytes_received_max;
      route.bytes_received_total = c.transfer.bytes_received_total;
      return route;
    }
    count_bytes(route, c);
    if (chunks_.count == 1) return route;
    for (Move& m : route.moves) m.nanoseconds *= chunks_.count, m.launches *= chunks_.count;
    route.launches *= chunks_.count;
    // Every slab is copied to its place.
    const std::int64_t written = placements::worst_local_shape(*to_.layout, whole_).numel() * bytes_;
    route.nanoseconds = route.nanoseconds * chunks_.count + time_of(static_cast<double>(written), links_.to.copy_bytes_per_ns);
    return route;
  }

  const End& from_;
  const End& to_;
  const Shape& whole_;
  Shape shape_;
  Dtype dtype_;
  const LinksBetween& links_;
  std::int64_t bytes_;
  Chunks chunks_;
};

Route plan_between(const End& from, const End& to, const Shape& shape, Dtype dtype, const LinksBetween& links, std::int64_t limit) {
  Family whole(from, to, shape, dtype, links);
  std::optional<Route> best = whole.best(0);
  if (limit == 0 || best->peak_bytes <= limit) return *best;
  best = whole.best(limit);
  std::int64_t least = best ? 0 : whole.least_peak();
  for (int d = 0; d < shape.ndim(); ++d) {
    const auto i = static_cast<std::size_t>(d);
    if (!from.layout->dims[i].empty() || !to.layout->dims[i].empty()) continue;
    for (std::int64_t size : slab_sizes(shape[d])) {
      Family slabs(from, to, shape, dtype, links, d, size);
      if (auto route = slabs.best(limit); route && (!best || before(*route, *best))) best = std::move(route);
      if (!best) least = std::min(least, slabs.least_peak());
    }
  }
  if (!best) refuse_limit(limit, least);
  return *best;
}

struct Key {
  End from, to;
  Shape shape;
  Dtype dtype = Dtype::f32;
  std::array<std::uint64_t, 5> links{};
  std::int64_t limit = 0;
  friend bool operator==(const Key& a, const Key& b) {
    const auto ends = [](const Key& k) { return std::tie(k.from.layout, k.from.ranks, k.to.layout, k.to.ranks); };
    return ends(a) == ends(b) && a.shape == b.shape && a.dtype == b.dtype && a.links == b.links && a.limit == b.limit;
  }
  std::uint64_t hash() const noexcept {
    std::uint64_t h = base::mix(from.layout->hash, to.layout->hash);
    for (const auto* ranks : {&from.ranks, &to.ranks})
      for (int r : *ranks) h = base::mix(h, static_cast<std::uint64_t>(r));
    for (std::int64_t n : shape) h = base::mix(h, static_cast<std::uint64_t>(n));
    for (std::uint64_t n : links) h = base::mix(h, n);
    return base::mix(base::mix(h, static_cast<std::uint64_t>(dtype)), static_cast<std::uint64_t>(limit));
  }
  std::size_t bytes() const noexcept { return (from.ranks.size() + to.ranks.size()) * sizeof(int); }
};

std::array<std::uint64_t, 5> hashes_of(const LinksBetween& links) {
  return {hash_of(links.from), hash_of(links.to), std::bit_cast<std::uint64_t>(links.transfer.latency_ns),
          std::bit_cast<std::uint64_t>(links.transfer.bytes_per_ns), links.transfer.shared ? 1U : 0U};
}

// Few: keys name every rank.
RouteCache<Key>& table() {
  static auto* const all = new RouteCache<Key>(128);
  return *all;
}

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
  const Key key{from, to, shape, dtype, hashes_of(links), memory_limit};
  if (RouteRef known = table().find(key)) return known;
  auto route = std::make_shared<Route>(plan_between(from, to, shape, dtype, links, memory_limit));
  const Received least = Between(from, to, shape).least_received();
  route->lower_bound_max = least.max * info(dtype).bytes;
  route->lower_bound_total = least.total * info(dtype).bytes;
  table().insert(key, route);
  return route;
}

void add_routes_between(RouteTable& routes) { table().add_to(routes); }

}  // namespace dtensor::redistribute
