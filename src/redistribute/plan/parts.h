// SPDX-License-Identifier: Apache-2.0
// Parts: the ranks of one mesh by what they hold of a tensor: which part, which contribution to it, which replica of that.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "placements/layout.h"

namespace dtensor::redistribute {

/// One end of a move between meshes: a layout, and the world ranks at its coordinates (row-major).
struct End {
  placements::LayoutRef layout;
  std::vector<int> ranks;
};

/// Of the rank at `index`, row-major, of the layout's mesh.
Shape coordinates_of(const placements::Layout& layout, std::int64_t index);

/// What a rank holds. Parts of different numbers share no index; together they are the tensor.
struct Held {
  std::vector<int> part;          ///< per dimension
  std::int64_t contribution = 0;  ///< over the Partial axes, in mesh order
  std::int64_t replica = 0;       ///< over the Replicate axes, in mesh order
};

class Parts {
 public:
  Parts(const End& end, const Shape& shape);
  const placements::Layout& layout() const noexcept { return *layout_; }
  std::span<const int> ranks() const noexcept { return ranks_; }
  std::int64_t contributions() const noexcept { return std::ssize(contribution_offset_); }
  std::int64_t replicas() const noexcept { return std::ssize(replica_offset_); }
  std::int64_t parts() const noexcept { return parts_; }
  /// Of one dimension.
  int parts_of(int dim) const noexcept { return static_cast<int>(part_offset_[static_cast<std::size_t>(dim)].size()); }
  const std::vector<placements::Run>& runs(int dim, int part) const noexcept {
    return runs_[static_cast<std::size_t>(dim)][static_cast<std::size_t>(part)];
  }
  std::int64_t numel(const Held& held) const;
  Shape local_shape(const Held& held) const;
  /// Row-major over the dimensions.
  std::int64_t number(std::span<const int> part) const noexcept;
  /// Index in ranks().
  std::int64_t index(const Held& held) const noexcept;
  std::int64_t index(std::int64_t number, std::int64_t contribution, std::int64_t replica) const noexcept {
    return number_offset_[static_cast<std::size_t>(number)] + contribution_offset_[static_cast<std::size_t>(contribution)] +
           replica_offset_[static_cast<std::size_t>(replica)];
  }
  const Held& held(std::int64_t index) const noexcept { return held_[static_cast<std::size_t>(index)]; }
  /// Index of a world rank, -1 when it is not in the mesh.
  int find(int rank) const noexcept;
  /// The kind of all Partial axes of more than one rank; none when there is none, or several.
  std::optional<ReduceOp> kind() const noexcept;

 private:
  placements::LayoutRef layout_;
  std::vector<int> ranks_;
  std::vector<std::vector<std::int64_t>> part_offset_;  // by dimension and part: in the mesh's row-major order
  std::vector<std::int64_t> contribution_offset_, replica_offset_, number_offset_;
  std::vector<std::vector<std::vector<placements::Run>>> runs_;
  std::vector<Held> held_;
  std::vector<std::pair<int, int>> by_rank_;
  std::int64_t parts_ = 1;
};

}  // namespace dtensor::redistribute
