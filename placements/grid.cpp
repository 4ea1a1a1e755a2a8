// SPDX-License-Identifier: Apache-2.0
#include "placements/grid.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "mesh/mesh_data.h"

namespace dtensor::placements {

namespace {

constexpr std::size_t kMostSegments = 32, kMostCells = 1024;

std::string runs_text(const std::vector<Run>& runs) {
  constexpr std::size_t kShown = 8;
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, runs.size()); ++i) text += fmt::format("{}{}", i == 0 ? "" : " ", interval_text(runs[i]));
  if (runs.size() > kShown) text += fmt::format(" ... ({} runs)", runs.size());
  return text.empty() ? "none" : text;
}

bool covers(const std::vector<Run>& runs, std::int64_t index) {
  const auto after = std::upper_bound(runs.begin(), runs.end(), index, [](std::int64_t i, const Run& run) { return i < run.begin; });
  return after != runs.begin() && index < std::prev(after)->begin + std::prev(after)->length;
}

}  // namespace

Grid::Grid(const DeviceMesh& mesh, const Shape& shape, const Layout& layout) : ranks_(mesh.ranks().begin(), mesh.ranks().end()) {
  std::vector<std::set<std::int64_t>> bounds(shape.size());
  for (std::size_t dim = 0; dim < bounds.size(); ++dim)
    if (shape[dim] > 0) bounds[dim] = {0, shape[dim]};
  for (int rank : ranks_) {
    Shape coordinates;
    mesh::coordinates_of(mesh.data(), rank, coordinates);
    auto& runs = runs_.emplace_back();
    for (int dim = 0; dim < shape.ndim(); ++dim) {
      runs.push_back(owned_runs(layout, dim, shape[dim], coordinates));
      for (const Run& run : runs.back()) bounds[static_cast<std::size_t>(dim)].insert({run.begin, run.begin + run.length});
    }
    local_.push_back(local_shape(layout, shape, coordinates));
    if (local_.back().numel() == 0) empty_.push_back(rank);
  }
  std::sort(empty_.begin(), empty_.end());
  for (const auto& at : bounds) {
    Segments& segments = segments_.emplace_back();
    for (auto it = at.begin(); it != at.end() && std::next(it) != at.end(); ++it) segments.push_back({*it, *std::next(it) - *it});
  }
}

std::vector<int> Grid::owners(const std::vector<std::size_t>& cell) const {
  std::vector<int> owners;
  for (std::size_t position = 0; position < ranks_.size(); ++position) {
    bool owns = true;
    for (std::size_t dim = 0; dim < segments_.size() && owns; ++dim) owns = covers(runs_[position][dim], segments_[dim][cell[dim]].begin);
    if (owns) owners.push_back(ranks_[position]);
  }
  std::sort(owners.begin(), owners.end());
  return owners;
}

bool Grid::drawable() const noexcept {
  std::size_t cells = 1;
  for (const Segments& segments : segments_) {
    if (segments.empty() || segments.size() > kMostSegments) return false;
    cells *= segments.size();
  }
  return segments_.size() <= 3 && cells <= kMostCells;
}

std::string interval_text(const Run& run) {
  return run.length == 1 ? std::to_string(run.begin) : fmt::format("{}-{}", run.begin, run.begin + run.length - 1);
}

std::string ranks_text(const std::vector<int>& ranks) {
  constexpr std::size_t kShown = 8;
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t end = i + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    if (end - i < 3) end = i + 1;
    parts.push_back(interval_text({ranks[i], static_cast<std::int64_t>(end - i)}));
    i = end;
  }
  if (parts.size() <= kShown) return fmt::format("{}", fmt::join(parts, " "));
  return fmt::format("{} ... {} ({} ranks)", fmt::join(parts.begin(), parts.begin() + 3, " "), parts.back(), ranks.size());
}

std::string title_text(const DeviceMesh& mesh, const Shape& shape, const Layout& layout) {
  return to_string(shape) + to_string(layout, mesh.names()) + " on " + to_string(mesh);
}

std::vector<std::string> notes(const DeviceMesh& mesh, const Layout& layout, const Grid& grid) {
  std::vector<std::string> lines;
  for (std::size_t axis = 0; axis < layout.partial.size(); ++axis)
    if (layout.partial[axis])
      lines.push_back(fmt::format("partial on {}: the value is the {} over its {} ranks", mesh.names()[axis], to_string(*layout.partial[axis]),
                                  layout.mesh_sizes[axis]));
  if (!grid.empty_ranks().empty()) lines.push_back("without elements: rank " + ranks_text(grid.empty_ranks()));
  return lines;
}

std::vector<std::string> table_lines(const Grid& grid) {
  constexpr std::size_t kMostRows = 64, kFirst = 40, kLast = 8;
  const auto differ = [&](std::size_t a, std::size_t b) {
    for (int dim = 0; dim < grid.ndim(); ++dim)
      if (grid.runs(a, dim) != grid.runs(b, dim)) return true;
    return grid.rank(b) != grid.rank(a) + 1;
  };
  std::vector<std::size_t> starts;  // of neighbours that hold the same
  for (std::size_t position = 0; position < grid.rank_count(); ++position)
    if (position == 0 || differ(position - 1, position)) starts.push_back(position);
  starts.push_back(grid.rank_count());
  std::vector<std::vector<std::string>> rows{{"rank", "local shape"}};
  for (int dim = 0; dim < grid.ndim(); ++dim) rows.front().push_back(fmt::format("dim {}", dim));
  const std::size_t count = starts.size() - 1;
  for (std::size_t i = 0; i < count; ++i) {
    if (count > kMostRows && i == kFirst) {
      i = count - kLast;
      rows.push_back({fmt::format("... {} ranks more", starts[i] - starts[kFirst])});
    }
    const std::size_t position = starts[i];
    rows.push_back({interval_text({grid.rank(position), static_cast<std::int64_t>(starts[i + 1] - position)}), to_string(grid.local(position))});
    for (int dim = 0; dim < grid.ndim(); ++dim) rows.back().push_back(runs_text(grid.runs(position, dim)));
  }
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size() && row.size() > 1; ++i) widths[i] = std::max(widths[i], row[i].size());
  std::vector<std::string> lines;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i)
      line += fmt::format("{:<{}}{}", row[i], i + 1 < row.size() ? widths[i] : 0, i + 1 < row.size() ? "  " : "");
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace dtensor::placements
