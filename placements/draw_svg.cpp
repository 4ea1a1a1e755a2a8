// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "placements/grid.h"

namespace dtensor::placements {

namespace {

constexpr int kMargin = 16, kLine = 18, kLeastLabel = 64, kLeastCell = 30, kCharacter = 8;

// Draws downwards and remembers how far it came.
class Canvas {
 public:
  void line(int x, std::string_view text, std::string_view style = "") {
    y_ += kLine;
    put(x, y_ - 4, text, style);
    width_ = std::max(width_, x + static_cast<int>(text.size()) * kCharacter + kMargin);
  }
  void put(int x, int y, std::string_view text, std::string_view style = "") {
    body_ += fmt::format("<text x=\"{}\" y=\"{}\"{}{}>{}</text>\n", x, y, style.empty() ? "" : " ", style, text);
  }
  void cell(int x, int y, int width, int height, int hue, std::string_view text) {
    body_ +=
        fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"hsl({}, 65%, 82%)\" stroke=\"#444\"/>\n", x, y, width, height, hue);
    put(x + width / 2, y + height / 2 + 4, text, "text-anchor=\"middle\"");
    width_ = std::max(width_, x + width + kMargin);
  }
  int y() const noexcept { return y_; }
  void advance(int by) noexcept { y_ += by; }
  std::string finish() const {
    const int height = y_ + kMargin;
    return fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" font-family=\"monospace\" font-size=\"12\">\n"
        "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n{2}</svg>\n",
        width_, height, body_);
  }

 private:
  std::string body_;
  int y_ = kMargin;
  int width_ = 0;
};

// Pixel extents of the segments: in proportion to their lengths, but wide enough to be read.
std::vector<int> extents(const Segments& segments, int total, int least) {
  std::int64_t sum = 0;
  for (const Run& segment : segments) sum += segment.length;
  std::vector<int> result;
  for (const Run& segment : segments)
    result.push_back(std::max(least, static_cast<int>(static_cast<double>(total) * static_cast<double>(segment.length) / static_cast<double>(sum))));
  return result;
}

int hue_of(const std::vector<int>& owners) { return owners.empty() ? 0 : owners.front() * 137 % 360; }

void draw_plane(Canvas& canvas, const Grid& grid, int row_dim, int column_dim, std::vector<std::size_t> cell) {
  const Segments one{{0, 1}};
  const Segments& rows = row_dim < 0 ? one : grid.segments(row_dim);
  const Segments& columns = column_dim < 0 ? one : grid.segments(column_dim);
  std::vector<std::vector<std::vector<int>>> owners(rows.size());
  std::size_t longest = 0;
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::size_t c = 0; c < columns.size(); ++c) {
      if (row_dim >= 0) cell[static_cast<std::size_t>(row_dim)] = r;
      if (column_dim >= 0) cell[static_cast<std::size_t>(column_dim)] = c;
      owners[r].push_back(grid.owners(cell));
      longest = std::max(longest, ranks_text(owners[r].back()).size());
    }
  for (const Run& column : columns) longest = std::max(longest, interval_text(column).size());
  std::size_t label = 0;
  for (const Run& row : rows) label = std::max(label, interval_text(row).size());
  const int left = kMargin + std::max(kLeastLabel, static_cast<int>(label) * kCharacter + 8);
  const auto widths = extents(columns, 400, std::max(kLeastCell, static_cast<int>(longest) * kCharacter + 8));
  const auto heights = extents(rows, row_dim < 0 ? kLeastCell : 240, kLeastCell);
  if (column_dim >= 0) {
    canvas.line(kMargin, fmt::format("{}dim {} &#8594;", row_dim < 0 ? "" : fmt::format("dim {} &#8595; ", row_dim), column_dim), "fill=\"#666\"");
    int x = left;
    canvas.advance(kLine);
    for (std::size_t c = 0; c < columns.size(); ++c) {
      canvas.put(x + widths[c] / 2, canvas.y() - 4, interval_text(columns[c]), "text-anchor=\"middle\"");
      x += widths[c];
    }
  }
  for (std::size_t r = 0; r < rows.size(); ++r) {
    canvas.put(kMargin, canvas.y() + heights[r] / 2 + 4, row_dim < 0 ? "rank" : interval_text(rows[r]));
    int x = left;
    for (std::size_t c = 0; c < columns.size(); ++c) {
      canvas.cell(x, canvas.y(), widths[c], heights[r], hue_of(owners[r][c]), ranks_text(owners[r][c]));
      x += widths[c];
    }
    canvas.advance(heights[r]);
  }
  canvas.advance(kLine / 2);
}

}  // namespace

std::string draw_svg(const DeviceMesh& mesh, const Shape& shape, const Layout& layout) {
  const Grid grid(mesh, shape, layout);
  Canvas canvas;
  canvas.line(kMargin, title_text(mesh, shape, layout), "font-weight=\"bold\"");
  const int ndim = shape.ndim();
  if (!grid.drawable()) {
    for (const std::string& line : table_lines(grid)) canvas.line(kMargin, line, "xml:space=\"preserve\"");
  } else if (ndim < 3) {
    draw_plane(canvas, grid, ndim == 2 ? 0 : -1, ndim - 1, std::vector<std::size_t>(shape.size(), 0));
  } else {
    for (std::size_t slice = 0; slice < grid.segments(0).size(); ++slice) {
      canvas.line(kMargin, fmt::format("dim 0 = {}", interval_text(grid.segments(0)[slice])));
      draw_plane(canvas, grid, 1, 2, {slice, 0, 0});
    }
  }
  for (const std::string& note : notes(mesh, layout, grid)) canvas.line(kMargin, note);
  return canvas.finish();
}

}  // namespace dtensor::placements
