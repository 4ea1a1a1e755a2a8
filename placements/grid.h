// SPDX-License-Identifier: Apache-2.0
// What a drawing shows: the index space cut at every bound of a run, and the ranks that own each cell.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "placements/layout.h"

namespace dtensor::placements {

/// Segments of one dimension: maximal intervals that no rank's run cuts.
using Segments = std::vector<Run>;

class Grid {
 public:
  Grid(const DeviceMesh& mesh, const Shape& shape, const Layout& layout);
  int ndim() const noexcept { return static_cast<int>(segments_.size()); }
  const Segments& segments(int dim) const { return segments_[static_cast<std::size_t>(dim)]; }
  /// World ranks that own the cell, ascending; `cell` has one segment index per dimension.
  std::vector<int> owners(const std::vector<std::size_t>& cell) const;
  /// World ranks that own no element, ascending.
  const std::vector<int>& empty_ranks() const noexcept { return empty_; }
  /// Up to three dimensions and few enough cells to be read.
  bool drawable() const noexcept;
  std::size_t rank_count() const noexcept { return ranks_.size(); }
  int rank(std::size_t position) const { return ranks_[position]; }
  /// Runs of the rank at mesh position `position` in dimension `dim`.
  const std::vector<Run>& runs(std::size_t position, int dim) const { return runs_[position][static_cast<std::size_t>(dim)]; }
  const Shape& local(std::size_t position) const { return local_[position]; }

 private:
  std::vector<int> ranks_;
  std::vector<std::vector<std::vector<Run>>> runs_;  // by mesh position, dim
  std::vector<Shape> local_;
  std::vector<Segments> segments_;
  std::vector<int> empty_;
};

/// "3", "0-5": an interval of indices.
std::string interval_text(const Run& run);
/// "0 2", "0-3": ascending numbers, three or more neighbours as a range; of many only some: "0 8 16 ... 504 (64 ranks)".
std::string ranks_text(const std::vector<int>& ranks);
/// "[8]{dp: S(0)} on Mesh(dp=4)".
std::string title_text(const DeviceMesh& mesh, const Shape& shape, const Layout& layout);
/// One sentence per fact that cells do not show: Partial axes, ranks without elements. May be empty.
std::vector<std::string> notes(const DeviceMesh& mesh, const Layout& layout, const Grid& grid);
/// A table for layouts that are not drawable: rank, local shape and indices, neighbours that hold the same in one line, the middle of a long one left out.
std::vector<std::string> table_lines(const Grid& grid);

}  // namespace dtensor::placements
