// SPDX-License-Identifier: Apache-2.0
// A tensor that changes its mesh: who gives which box to whom, and the route around that one move. Pure numbers, the same on every rank.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dtensor/mesh.h"
#include "dtensor/topology.h"
#include "mesh/mesh_data.h"
#include "redistribute/plan/figures.h"
#include "redistribute/plan/parts.h"
#include "redistribute/plan/route.h"

namespace dtensor::redistribute {

/// The move itself. Laws (tested by enumeration):
///  * every rank of the target gets every index of its part once per contribution, from itself where it has it, else from one replica of an owner;
///  * replicas of an owner share the sending: a receiver that is in the source mesh takes from the replica of its own coordinates while that one has less than its
///    fair share to send, any other from the one that sends least so far (then the first);
///  * the contributions to an element are combined in the order of the source mesh on every rank that needs them;
///  * one kind Partial at both ends (avg: over equally many ranks) keeps contributions apart: of p, the target's contribution j of q is those k with
///    floor(k * q / p) = j. Else the whole value goes where R -> P puts it, and neutral elements elsewhere.
class Between {
 public:
  Between(const End& from, const End& to, const Shape& shape);

  /// World ranks that take part, in the order of the communicator: ascending, but the source mesh in its own order and then the others where
  /// contributions would be combined in another order.
  const std::vector<int>& group() const noexcept { return group_; }
  /// Some rank combines several contributions.
  bool combines() const noexcept { return combines_; }
  /// Some rank receives from another.
  bool communicates() const noexcept { return received_.total > 0; }
  /// Elements from other ranks.
  Received received() const noexcept { return received_; }
  std::int64_t received_by(int rank) const noexcept;
  /// Elements that any way of doing it receives.
  Received least_received() const;
  /// What `rank` sends and receives, itself included. Peers are positions in group().
  /// Sends are in the strides `source_strides` of this rank's source (empty: row-major).
  Transfer transfer(int rank, const Shape& source_strides = {}) const;
  /// When nothing communicates: which local indices of the source are the rank's result, per dimension.
  std::vector<std::vector<placements::Run>> local_runs(int rank) const;
  /// The neutral elements that are the part of a rank which gets no contribution.
  std::optional<ReduceOp> fill(int rank) const noexcept;
  /// Nothing communicates, and every rank's result is one interval per dimension of its source, or neutral elements.
  bool views() const;
  /// Elements: most that one rank writes of the result, times the contributions it combines. None where the result is a view.
  std::int64_t touched() const;
  const Parts& from() const noexcept { return from_; }
  const Parts& to() const noexcept { return to_; }

 private:
  // What one receiver takes from the owners of one part of the source.
  struct Share {
    std::int64_t number = 0, volume = 0, replica = 0;
  };
  struct Range {
    std::int64_t begin = 0, end = 0;
    bool empty() const noexcept { return begin == end; }
  };
  Range contributions(const Held& target) const noexcept;
  std::vector<Share> shares_of(const Held& target) const;
  void choose_replicas();
  std::int64_t choose_replica(const Share& share, int own, std::span<const std::int64_t> load, std::int64_t fair) const;
  int sender(const Share& share, std::int64_t contribution) const;
  int peer(int rank) const noexcept;
  void make_group();
  void count();
  std::int64_t least_of_part(std::span<const int> receivers, const Share& share, std::vector<std::int64_t>& lacks) const;
  void append(std::vector<Piece>& out, const Held& source, const Held& target, bool sending, const Shape& strides, std::span<const int> peers) const;

  Parts from_, to_;
  int ndim_;
  bool kept_ = false;  // contributions stay apart
  bool combines_ = false;
  std::vector<std::vector<Share>> shares_;  // by index in the target mesh
  std::vector<std::int64_t> received_by_;   // likewise
  std::vector<int> group_;
  std::vector<std::pair<int, int>> peers_;  // rank and position in the group
  Received received_;
};

/// @throws InvalidArgument for meshes of two worlds.
void check_worlds(const DeviceMesh& from, const DeviceMesh& to);

/// Links of the moves on either mesh, and those that a transfer uses. Copies and launches are those of `from`.
struct LinksBetween {
  Topology from = reference_topology(), to = reference_topology();
  AxisLink transfer = reference_topology().fallback;
};
/// A transfer takes the link between hosts when the ranks of both meshes are not all on one. @throws as links_of.
LinksBetween links_between(const dtensor::Topology& topology, const mesh::MeshData& from, const mesh::MeshData& to);

/// The cheapest of: moves on the source mesh to an intermediate layout, one transfer, moves on the target mesh. Intermediates are the ends themselves;
/// at a source with contributions also all its Partial axes as Replicate, or split over one dimension; at a target that gets contributions or is
/// Partial also its Replicate axes, its Partial axes or both split over one dimension. Ties by (cost, launches, peak, this order). Without Partial the transfer
/// alone is optimal.
/// @throws InvalidArgument for other numbers of dimensions, or a memory limit that cannot be met (naming the least that would do).
/// A limit may also lead to chunks (chunks.h), of a dimension that neither end splits. Cached process-wide under a bounded table.
RouteRef find_route_between(const End& from, const End& to, const Shape& shape, Dtype dtype, const LinksBetween& links = {},
                            std::int64_t memory_limit = 0);
/// Adds its table.
void add_routes_between(RouteTable& table);

}  // namespace dtensor::redistribute
