// SPDX-License-Identifier: Apache-2.0
// Plan: how a tensor gets from one list of placements to another, explained before it is done. Pure: nothing communicates.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dtensor/export.h"
#include "dtensor/mesh.h"
#include "dtensor/placement.h"
#include "dtensor/values.h"

namespace dtensor {

namespace redistribute {
struct PlanData;
}
struct Topology;

/// Bytes on the rank that has most, and on all ranks together.
struct Bytes {
  std::int64_t max = 0, total = 0;
  friend constexpr bool operator==(const Bytes&, const Bytes&) = default;
};

struct PlanMove {
  std::string kind;               ///< "all_gather"; see to_string(plan)
  std::vector<std::string> axes;  ///< mesh axes whose ranks take part
  std::string change;             ///< "S(1) -> R on tp"
  Bytes received;                 ///< from other ranks
  int launches = 0;               ///< 1 for a move that communicates, times the chunks
  double predicted_us = 0;
};

/// A handle; copies share one value.
class DTENSOR_EXPORT Plan {
 public:
  explicit Plan(std::shared_ptr<const redistribute::PlanData> data) : data_(std::move(data)) {}
  /// In order; none when source and target are the same.
  std::vector<PlanMove> moves() const;
  int launches() const noexcept;
  Bytes bytes_received() const noexcept;
  /// What any way receives at least that keeps an axis Partial in both ends as it is (reducing it on the way is another problem, and may receive less).
  Bytes lower_bound() const noexcept;
  double predicted_us() const noexcept;
  /// No other plan is predicted to take less by more than this. 0: it is the cheapest, as always on up to three mesh axes; on more the search stops at a
  /// stated effort, the same on every rank.
  double gap_us() const noexcept;
  /// On the worst rank, source included.
  std::int64_t peak_bytes() const noexcept;
  /// How many slabs of the tensor go one after the other, so that a memory limit is kept: 1 without a limit. Figures of moves are those of all slabs together.
  int chunks() const noexcept;
  /// {"moves": [{"kind", "axes", "bytes_received", "launches", "predicted_us"}], "bytes_received": {"max", "total"},
  ///  "lower_bound": {"max", "total"}, "predicted_us", "gap_us", "peak_bytes", "chunks"}; bytes_received of a move is that of its worst rank.
  std::string json() const;
  /// A column of layouts with the moves between them, ranks as cells.
  std::string svg() const;
  friend DTENSOR_EXPORT std::string to_string(const Plan& plan);

 private:
  std::shared_ptr<const redistribute::PlanData> data_;
};
/// A line per move, "S(1) -> R on tp: all_gather[tp] 4 MiB" (bytes received on the worst rank), under the two ends and above the totals.
DTENSOR_EXPORT std::string to_string(const Plan& plan);

/// The plan that redistribute would follow under the default topology, or a given one (explain takes the world's). `memory_limit` bounds the peak in bytes
/// (0: none); source and, where it is no view of it, result count. @throws InvalidArgument for placements that are not of this mesh and shape, a limit that cannot be met (naming the least that can), or a
/// topology with bad figures or fewer hosts than the mesh has.
DTENSOR_EXPORT Plan make_plan(const DeviceMesh& mesh, const Shape& shape, Dtype dtype, const Placements& from, const Placements& to,
                              std::int64_t memory_limit = 0);
DTENSOR_EXPORT Plan make_plan(const DeviceMesh& mesh, const Shape& shape, Dtype dtype, const Placements& from, const Placements& to,
                              std::int64_t memory_limit, const Topology& topology);
/// The same to another mesh of the same world. The move between the meshes is a "transfer"; those before it name axes of `mesh`, those after it of `target`.
DTENSOR_EXPORT Plan make_plan(const DeviceMesh& mesh, const Shape& shape, Dtype dtype, const Placements& from, const DeviceMesh& target,
                              const Placements& to, std::int64_t memory_limit = 0);
DTENSOR_EXPORT Plan make_plan(const DeviceMesh& mesh, const Shape& shape, Dtype dtype, const Placements& from, const DeviceMesh& target,
                              const Placements& to, std::int64_t memory_limit, const Topology& topology);

}  // namespace dtensor
