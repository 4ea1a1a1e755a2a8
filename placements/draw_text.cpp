// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "placements/grid.h"

namespace dtensor::placements {

namespace {

// A table with a heading row and a heading column, ruled by + - |.
std::string ruled(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string rule = fmt::format("{:{}} +", "", widths[0]);
  for (std::size_t i = 1; i < widths.size(); ++i) rule += std::string(widths[i] + 2, '-') + "+";
  rule += "\n";
  std::string text;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    text += fmt::format("{:>{}} {}", rows[r][0], widths[0], r == 0 ? " " : "|");
    for (std::size_t i = 1; i < widths.size(); ++i) text += fmt::format(" {:<{}} {}", rows[r][i], widths[i], r == 0 ? " " : "|");
    while (!text.empty() && text.back() == ' ') text.pop_back();
    text += "\n" + rule;
  }
  return text;
}

// Dimensions `row_dim` (-1: none) down and `column_dim` across, the others fixed by `cell`.
std::string draw_plane(const Grid& grid, int row_dim, int column_dim, std::vector<std::size_t> cell) {
  const Segments one{{0, 1}};
  const Segments& rows = row_dim < 0 ? one : grid.segments(row_dim);
  const Segments& columns = column_dim < 0 ? one : grid.segments(column_dim);
  std::vector<std::vector<std::string>> table(rows.size() + 1);
  table[0].push_back(row_dim < 0 ? "" : fmt::format("dim {} \\ dim {}", row_dim, column_dim));
  if (row_dim < 0 && column_dim >= 0) table[0][0] = fmt::format("dim {}", column_dim);
  for (const Run& column : columns) table[0].push_back(column_dim < 0 ? "" : interval_text(column));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    auto& line = table[r + 1];
    line.push_back(row_dim < 0 ? "rank" : interval_text(rows[r]));
    for (std::size_t c = 0; c < columns.size(); ++c) {
      if (row_dim >= 0) cell[static_cast<std::size_t>(row_dim)] = r;
      if (column_dim >= 0) cell[static_cast<std::size_t>(column_dim)] = c;
      line.push_back(ranks_text(grid.owners(cell)));
    }
  }
  return ruled(table);
}

}  // namespace

std::string draw_text(const DeviceMesh& mesh, const Shape& shape, const Layout& layout) {
  const Grid grid(mesh, shape, layout);
  std::string text = title_text(mesh, shape, layout) + "\n";
  const int ndim = shape.ndim();
  if (!grid.drawable()) {
    for (const std::string& line : table_lines(grid)) text += line + "\n";
  } else if (ndim < 3) {
    text += draw_plane(grid, ndim == 2 ? 0 : -1, ndim - 1, std::vector<std::size_t>(shape.size(), 0));
  } else {
    for (std::size_t slice = 0; slice < grid.segments(0).size(); ++slice)
      text += fmt::format("dim 0 = {}\n{}", interval_text(grid.segments(0)[slice]), draw_plane(grid, 1, 2, {slice, 0, 0}));
  }
  for (const std::string& note : notes(mesh, layout, grid)) text += note + "\n";
  return text;
}

}  // namespace dtensor::placements
