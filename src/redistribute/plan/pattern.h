// SPDX-License-Identifier: Apache-2.0
// Figures by pattern: what the ranks have in common is counted by classes of coordinates that get equal shares, not rank by rank. A share depends on the number of
// indices that it is cut from alone, and ceil chunks have few sizes: the whole chunk, one remainder, nothing. Exact for every layout.
//
// Where two lists of a dimension part, positions count as well: their axes are walked coordinate by coordinate, but only where intervals meet.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "redistribute/plan/space.h"

namespace dtensor::redistribute {

/// Elements received from other ranks: on the worst rank, and on all ranks together.
struct Received {
  std::int64_t max = 0, total = 0;
};

/// Coordinates of a mesh axis from `at` on that count alike, `ranks` of them.
struct AxisClass {
  std::int64_t at = 0, ranks = 1;
};

/// Classes of coordinates, the fewest under which the given lists have constant counts.
class Classes {
 public:
  explicit Classes(const Space& space);
  /// Counts of `list` (and of what it comes from) are constant over every class.
  void separate(int list);
  /// Every coordinate of the axes is its own class.
  void separate_all(AxisMask axes);
  void close();  ///< after the last separate
  const std::vector<AxisClass>& of(int axis) const noexcept { return classes_[static_cast<std::size_t>(axis)]; }
  /// Combinations of classes along `axes`.
  std::int64_t combinations(AxisMask axes) const noexcept;
  /// Calls visit(coordinates, ranks) for every combination along `axes`, the others as in `coordinates`, until visit gives false.
  template <class Visit>
  bool for_each(AxisMask axes, Shape& coordinates, Visit&& visit, std::int64_t ranks = 1, int axis = 0) const {
    while (axis < space_.mesh_ndim() && !(axes & bit(axis))) ++axis;
    if (axis == space_.mesh_ndim()) return visit(coordinates, ranks);
    for (const AxisClass& c : of(axis)) {
      coordinates[axis] = c.at;
      if (!for_each(axes, coordinates, visit, ranks * c.ranks, axis + 1)) return false;
    }
    coordinates[axis] = 0;
    return true;
  }

 private:
  const Space& space_;
  AxisMask all_ = 0;
  std::array<std::vector<std::int64_t>, kMaxDims> firsts_;
  std::array<std::vector<AxisClass>, kMaxDims> classes_;
};

/// Indices that the rank at `coordinates` has under both lists of one dimension.
std::int64_t common_indices_at(const Space& space, int from, int to, const Shape& coordinates);
/// The sum of that over the ranks along the axes of the lists.
std::int64_t common_indices(const Space& space, int from, int to);

/// What the ranks lack when each needs `contributions` of every element of its part under `to` but has its part under `from`:
/// contributions * |to| - |from and to|. Lists alone count. The total is 0 where only the maximum is asked for.
Received lacking(const Space& space, const State& from, const State& to, std::int64_t contributions, bool with_total);
/// The same of one contribution where the ranks along `shared` do the task of one.
Received lacking_together(const Space& space, const State& from, const State& to, AxisMask shared);
/// At most lacking().max and quickly found; equal to it where `exact`.
struct Estimate {
  std::int64_t max = 0;
  bool exact = false;
};
Estimate lacking_at_least(const Space& space, const State& from, const State& to, std::int64_t contributions);

}  // namespace dtensor::redistribute
