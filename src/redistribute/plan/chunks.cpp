// SPDX-License-Identifier: Apache-2.0
#include "redistribute/plan/chunks.h"

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error_text.h"
#include "redistribute/plan/figures.h"

namespace dtensor::redistribute {
namespace {

// Calls visit(coordinates) for all coordinates of a mesh of these sizes.
template <class Visit>
void for_each_rank(const std::vector<int>& sizes, Visit&& visit) {
  Shape c = Shape::filled(static_cast<int>(sizes.size()), 0);
  while (true) {
    visit(c);
    int a = static_cast<int>(sizes.size()) - 1;
    while (a >= 0 && ++c[a] == sizes[static_cast<std::size_t>(a)]) c[a--] = 0;
    if (a < 0) return;
  }
}

// A dimension to cut. A slab is a tensor on the mesh of the ranks that have the same part of the dimension.
class Cut {
 public:
  Cut(const Question& question, int dim)
      : question_(question), dim_(dim), bytes_(info(question.dtype).bytes), from_(*question.from), to_(*question.to) {
    std::vector<int> along(from_.mesh_sizes.size(), 1);
    for (const placements::Split& split : from_.dims[static_cast<std::size_t>(dim)])
      for (int a : split.axes) std::swap(along[static_cast<std::size_t>(a)], from_.mesh_sizes[static_cast<std::size_t>(a)]);
    to_.mesh_sizes = from_.mesh_sizes;
    from_.dims[static_cast<std::size_t>(dim)].clear();
    to_.dims[static_cast<std::size_t>(dim)].clear();
    from_ref_ = placements::intern(from_);
    to_ref_ = placements::intern(to_);
    for_each_rank(along, [&](const Shape& c) { ++owners_[placements::local_size(*question.from, dim, question.shape[dim], c)]; });
  }

  std::int64_t extent() const { return owners_.rbegin()->first; }

  std::optional<Route> route(std::int64_t size, std::int64_t limit) const {
    Space space(*from_ref_, *to_ref_, slab(size), dim_);
    const Costs costs(*question_.topology, space, bytes_);
    const State source = space.state_of(from_), goal = space.state_of(to_);
    const std::int64_t beside = ends_bytes() - space.worst(source) * bytes_;
    if (limit <= beside) return {};
    const auto found = search_within(space, costs, source, goal, limit - beside);
    if (!found) return {};
    Route route = route_of(space, *found, from_ref_, to_ref_, bytes_);
    route.chunks = {static_cast<int>(ceil_div(extent(), size)), dim_, size};
    route.peak_bytes = beside + found->peak_bytes;
    route.launches *= route.chunks.count;
    route.nanoseconds = 0;
    for (Move& m : route.moves) {
      m.nanoseconds *= route.chunks.count;
      m.launches *= route.chunks.count;
      route.nanoseconds += m.nanoseconds;
    }
    // Every slab is copied to its place.
    route.nanoseconds += costs.writing(elements(*question_.to));
    return route;
  }

  // Bytes of all slabs, and layouts on the mesh of the tensor: of the route that is taken only, since every rank is looked at.
  void finish(Route& route) const {
    count_bytes(route);
    for (Move& m : route.moves) m.from = on_whole_mesh(m.from), m.to = on_whole_mesh(m.to);
  }

  std::int64_t least_peak(std::int64_t size) const {
    Space space(*from_ref_, *to_ref_, slab(size), dim_);
    const Costs costs(*question_.topology, space, bytes_);
    const State source = space.state_of(from_);
    return ends_bytes() - space.worst(source) * bytes_ + search_smallest(space, costs, source, space.state_of(to_)).peak_bytes;
  }

 private:
  Shape slab(std::int64_t size) const {
    Shape shape = question_.shape;
    shape[dim_] = size;
    return shape;
  }
  std::int64_t elements(const Layout& layout) const { return placements::worst_local_shape(layout, question_.shape).numel(); }
  std::int64_t ends_bytes() const { return (elements(*question_.from) + elements(*question_.to)) * bytes_; }

  LayoutRef on_whole_mesh(const LayoutRef& layout) const {
    Layout whole = *layout;
    whole.mesh_sizes = question_.from->mesh_sizes;
    return placements::intern(std::move(whole));
  }

  // By what every rank receives of every slab: of an all_reduce the shares are uneven.
  void count_bytes(Route& route) const {
    route.bytes_received_max = route.bytes_received_total = 0;
    for (Move& m : route.moves) m.bytes_received_max = m.bytes_received_total = 0;
    for (const auto& [indices, ranks] : owners_) {
      const auto whole = received_of_slab(route, route.chunks.size), rest = received_of_slab(route, indices % route.chunks.size);
      const std::int64_t slabs = indices / route.chunks.size;
      for (std::size_t r = 0; r < whole.size(); ++r) {
        std::int64_t sum = 0;
        for (std::size_t i = 0; i < route.moves.size(); ++i) {
          const std::int64_t bytes = (slabs * whole[r][i] + rest[r][i]) * bytes_;
          route.moves[i].bytes_received_max = std::max(route.moves[i].bytes_received_max, bytes);
          route.moves[i].bytes_received_total += bytes * ranks;
          route.bytes_received_total += bytes * ranks;
          sum += bytes;
        }
        route.bytes_received_max = std::max(route.bytes_received_max, sum);
      }
    }
  }

  // Elements, by rank and move.
  std::vector<std::vector<std::int64_t>> received_of_slab(const Route& route, std::int64_t size) const {
    Space space(*from_ref_, *to_ref_, slab(size), dim_);
    std::vector<std::pair<State, State>> ends;
    for (const Move& m : route.moves) {
      const State from = space.state_of(*m.from);
      ends.emplace_back(from, space.state_of(*m.to));
    }
    std::vector<std::vector<std::int64_t>> received;
    for_each_rank(from_.mesh_sizes, [&](const Shape& c) {
      auto& by_move = received.emplace_back();
      for (std::size_t i = 0; i < ends.size(); ++i) by_move.push_back(received_by(space, route.moves[i].kind, ends[i].first, ends[i].second, c));
    });
    return received;
  }

  const Question& question_;
  int dim_;
  std::int64_t bytes_;
  Layout from_, to_;  // of a slab
  LayoutRef from_ref_, to_ref_;
  std::map<std::int64_t, std::int64_t> owners_;  // local indices of the dimension -> how many parts have so many
};

template <class Visit>
void for_each_cut(const Question& question, Visit&& visit) {
  for (int d = 0; d < question.shape.ndim(); ++d)
    if (question.from->dims[static_cast<std::size_t>(d)] == question.to->dims[static_cast<std::size_t>(d)]) visit(Cut(question, d));
}

}  // namespace

std::vector<std::int64_t> slab_sizes(std::int64_t extent) {
  std::vector<std::int64_t> sizes;
  const auto add = [&](std::int64_t size) {
    if (size < extent && (sizes.empty() || size < sizes.back()) && ceil_div(extent, size) <= kMostChunks) sizes.push_back(size);
  };
  for (std::int64_t count = 2; count < extent && count <= kMostChunks; count *= 2) add(ceil_div(extent, count));
  if (extent > 1) add(1);
  return sizes;
}

bool before(const Route& a, const Route& b) noexcept {
  return std::tie(a.nanoseconds, a.launches, a.peak_bytes) < std::tie(b.nanoseconds, b.launches, b.peak_bytes);
}

std::optional<Route> route_in_chunks(const Question& question, std::int64_t limit) {
  std::optional<Route> best;
  for_each_cut(question, [&](const Cut& cut) {
    for (std::int64_t size : slab_sizes(cut.extent()))
      if (auto route = cut.route(size, limit); route && (!best || before(*route, *best))) best = std::move(route);
  });
  if (best) Cut(question, best->chunks.dim).finish(*best);
  return best;
}

std::optional<std::int64_t> least_peak_in_chunks(const Question& question) {
  std::optional<std::int64_t> least;
  for_each_cut(question, [&](const Cut& cut) {
    for (std::int64_t size : slab_sizes(cut.extent()))
      least = std::min(least.value_or(std::numeric_limits<std::int64_t>::max()), cut.least_peak(size));
  });
  return least;
}

void refuse_limit(std::int64_t limit, std::int64_t least_peak) {
  base::fail<InvalidArgument>("redistribute: the memory limit cannot be met ({} bytes, the least peak is {}); raise it to {}", limit, least_peak,
                              least_peak);
}

}  // namespace dtensor::redistribute
