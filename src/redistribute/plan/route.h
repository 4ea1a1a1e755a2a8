// SPDX-License-Identifier: Apache-2.0
// The pure planner: a route from one layout to another as a list of moves, the cheapest under a stated cost. A function of
// (layouts, shape, dtype, topology, memory limit) alone, so all ranks choose alike.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dtensor/placement.h"
#include "placements/layout.h"
#include "redistribute/plan/transfer.h"

namespace dtensor::redistribute {

using placements::Layout;
using placements::LayoutRef;

enum class MoveKind : std::uint8_t {
  relabel,           ///< equivalent layouts: nothing moves
  slice,             ///< R -> S: a local view
  to_partial,        ///< R -> P: value on the first rank of the axis and neutral elements elsewhere (min, max, avg keep the value)
  shard_to_partial,  ///< S -> P, and R -> S of the same dimensions at once: own part kept and cut, neutral elsewhere
  all_gather,        ///< S -> R
  reduce_scatter,    ///< P -> S
  all_reduce,        ///< P -> R
  all_to_all,        ///< S(i) -> S(j)
  permute,           ///< the same pieces on other ranks
  send_recv,         ///< direct, grouped: from anything to anything (from Partial: contributions added in rank order)
  transfer,          ///< to another mesh: `from` and `to` are layouts of different meshes (plan/between.h); communicates unless launches is 0
  window,            ///< what a part of a result reads of an operand (plan/window.h): the indices that are missing; `to` is `from`
};
std::string_view to_string(MoveKind kind) noexcept;

struct Move {
  MoveKind kind = MoveKind::relabel;
  std::vector<int> axes;  ///< mesh axes whose ranks take part, ascending
  LayoutRef from, to;
  // Figures, by the conventions of docs/redistribution.md.
  std::int64_t bytes_received_max = 0, bytes_received_total = 0;  ///< worst rank; all ranks
  int launches = 0;                                               ///< 1 for what communicates
  std::int64_t nanoseconds = 0;
};

/// Links and copies of one mesh axis.
struct AxisLink {
  double latency_ns = 0;
  double bytes_per_ns = 0;  ///< received per rank by a group along this axis alone
  bool shared = false;      ///< a group over further axes divides it by their ranks as well
};
/// What the planner knows about the machine. A topology chooses the route, never the placements an op gives.
struct Topology {
  std::vector<AxisLink> axes;  ///< one per mesh axis; an empty list means `fallback` for all
  AxisLink fallback{2000, 10};
  double copy_bytes_per_ns = 10;
  double launch_ns = 500;
};
/// The fixed constants under which rules compare candidates, and the default of redistribute.
const Topology& reference_topology();
std::uint64_t hash_of(const Topology& topology);

/// A route in chunks: the result is made first; dimension `dim`, which no move changes, is cut on every rank into `count` slabs of `size` local indices
/// (the last ones smaller or empty), each of which passes all moves and is copied to its place before the next one starts.
struct Chunks {
  int count = 1;
  int dim = -1;
  std::int64_t size = 0;
};
struct Route {
  std::vector<Move> moves;  ///< in chunks: figures of all slabs together, layouts of one slab (as if no axis split `dim`)
  Chunks chunks;
  std::int64_t nanoseconds = 0;
  std::int64_t gap_nanoseconds = 0;  ///< no route takes less by more than this; 0 where the search came to its end
  int launches = 0;
  std::int64_t bytes_received_max = 0, bytes_received_total = 0;
  std::int64_t peak_bytes = 0;                              ///< worst rank, source included
  std::int64_t lower_bound_max = 0, lower_bound_total = 0;  ///< of the bytes received
};
using RouteRef = std::shared_ptr<const Route>;

/// A search among layouts of more than three axes (those of one rank not counted) stops at this effort, of search.h: some seconds. Then the route is the best
/// one known, and gap_nanoseconds says what a better one may save. With a memory limit that this route exceeds the search goes to its end.
inline constexpr std::int64_t kMostEffort = 20'000'000;
inline constexpr int kExactAxes = 3;
/// The cheapest route; ties by (cost, launches, peak, encoding). Cached process-wide under a bounded table.
/// @throws InvalidArgument for layouts of different meshes or dimensions, a memory limit that cannot be met (naming the least that would do).
RouteRef find_route(const LayoutRef& from, const LayoutRef& to, const Shape& shape, Dtype dtype, const Topology& topology = reference_topology(),
                    std::int64_t memory_limit = 0);
/// What the tables of find_route and find_route_between hold, and at most will.
struct RouteTable {
  std::size_t routes = 0, most = 0;
  std::size_t bytes = 0;  ///< of the entries and the moves of their routes; layouts are shared and not counted
};
RouteTable route_table();
/// The same without the table: planned anew.
RouteRef plan_route(const LayoutRef& from, const LayoutRef& to, const Shape& shape, Dtype dtype, const Topology& topology = reference_topology(),
                    std::int64_t memory_limit = 0);

/// The boxes that the rank at `coordinates` (one per mesh axis) sends and receives in `move`. Peers are indices in the sub-grid along move.axes,
/// row-major in the order of move.axes. Only for kinds that communicate, all_reduce excepted (it needs no boxes).
/// Sends are in the strides `source_strides` of this rank's source (empty: row-major).
Transfer lower(const Move& move, const Shape& shape, const Shape& coordinates, const Shape& source_strides = {});
/// What a rank keeps in shard_to_partial: box by box, per dimension where it lies in the local source and in the local result.
struct Kept {
  std::vector<std::vector<placements::Run>> source, target;
};
Kept kept_runs(const Layout& from, const Layout& to, const Shape& shape, const Shape& coordinates);
/// For slice: the local view; start and length per dimension of the source's local tensor (a list of runs per dimension when not one interval).
std::vector<std::vector<placements::Run>> local_runs(const Layout& from, const Layout& to, const Shape& shape, const Shape& coordinates);

}  // namespace dtensor::redistribute
