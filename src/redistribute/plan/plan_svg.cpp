// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "redistribute/plan/plan_data.h"

namespace dtensor {
namespace {

using redistribute::bytes_text;
using redistribute::Layout;
using redistribute::LayoutRef;
using redistribute::Move;
using redistribute::MoveKind;
using redistribute::PlanData;
using redistribute::time_text;

constexpr int kMargin = 20, kLine = 16, kGap = 6, kBlockGap = 24, kDots = 28, kArrow = 66, kCharacter = 8;
constexpr std::string_view kEmpty = "empty";
constexpr int kSkipped = -1;  // stands for the numbers that are left out

std::string escaped(std::string_view text) {
  std::string result;
  for (char c : text) {
    if (c == '<') result += "&lt;";
    else if (c == '>') result += "&gt;";
    else if (c == '&') result += "&amp;";
    else result += c;
  }
  return result;
}

// 0 .. size-1, or the first ones and the last.
std::vector<int> shown(int size, int most) {
  std::vector<int> numbers;
  for (int i = 0; i < size; ++i) {
    if (size > most && i >= most - 2 && i + 1 < size) continue;
    if (size > most && i + 1 == size) numbers.push_back(kSkipped);
    numbers.push_back(i);
  }
  return numbers;
}

std::string runs_text(const std::vector<placements::Run>& runs) {
  const auto text = [](const placements::Run& run) { return fmt::format("{}:{}", run.begin, run.begin + run.length); };
  if (runs.size() == 1) return text(runs.front());
  return fmt::format("{}{}{}", text(runs.front()), runs.size() > 2 ? " .. " : " ", text(runs.back()));
}

// What a rank owns, a line per dimension.
std::vector<std::string> owned_lines(const PlanData& plan, const Layout& layout, const Shape& coordinates) {
  std::vector<std::string> lines;
  for (int d = 0; d < plan.shape.ndim(); ++d) {
    const auto runs = placements::owned_runs(layout, d, plan.shape[d], coordinates);
    if (runs.empty()) return {std::string(kEmpty)};
    lines.push_back(runs_text(runs));
  }
  if (lines.empty()) lines.emplace_back("value");
  return lines;
}

// Ranks as the mesh arranges them: the last axis across, the one before it down, the others as blocks from left to right.
struct Grid {
  DeviceMesh mesh;
  std::vector<int> sizes;
  int blocks = 1;
  std::vector<int> shown_blocks, shown_rows, shown_columns;

  explicit Grid(const DeviceMesh& of) : mesh(of), sizes(of.sizes().begin(), of.sizes().end()) {
    const std::size_t axes = sizes.size();
    for (std::size_t a = 0; a + 2 < axes; ++a) blocks *= sizes[a];
    shown_blocks = shown(blocks, 3);
    shown_rows = axes < 2 ? std::vector<int>{0} : shown(sizes[axes - 2], 4);
    shown_columns = shown(sizes[axes - 1], axes < 3 ? 8 : 4);
  }
  Shape coordinates(int block, int row, int column) const {
    const int axes = static_cast<int>(sizes.size());
    Shape c = Shape::filled(axes, 0);
    c[axes - 1] = column;
    if (axes > 1) c[axes - 2] = row;
    for (int a = axes - 3; a >= 0; --a) {
      const int size = sizes[static_cast<std::size_t>(a)];
      c[a] = block % size;
      block /= size;
    }
    return c;
  }
  int rank_at(const Shape& c) const {
    std::size_t position = 0;
    for (std::size_t a = 0; a < sizes.size(); ++a) position = position * static_cast<std::size_t>(sizes[a]) + static_cast<std::size_t>(c[a]);
    return mesh.ranks()[position];
  }
  std::string block_name(int number) const {
    const Shape c = coordinates(number, 0, 0);
    std::string name;
    for (std::size_t a = 0; a + 2 < sizes.size(); ++a) name += fmt::format("{}{}={}", name.empty() ? "" : " ", mesh.names()[a], c[a]);
    return name;
  }
  std::string axes_text() const {
    const auto names = mesh.names();
    std::string axes = fmt::format("axis {} across", names.back());
    if (names.size() > 1) axes += fmt::format(", {} down", names[names.size() - 2]);
    if (names.size() > 2) axes += fmt::format(", {} in blocks", fmt::join(names.begin(), names.end() - 2, "+"));
    return axes;
  }
};

class Drawing {
 public:
  explicit Drawing(const PlanData& plan) : plan_(plan), source_(plan.mesh), target_(plan.target ? plan.target : plan.mesh) {
    measure(*plan.from, source_);
    for (const Move& move : plan.route->moves) measure(*shown_after(move), grid_after(move));
  }

  std::string svg() {
    heading();
    stage(*plan_.from, source_);
    for (const Move& move : plan_.route->moves) {
      arrow(move);
      stage(*shown_after(move), grid_after(move));
    }
    y_ += kGap;
    const redistribute::Route& r = *plan_.route;
    if (r.chunks.count > 1)
      text(kMargin, y_ += kLine,
           fmt::format("in {} chunks of dim {}, {} of its indices on a rank at a time", r.chunks.count, r.chunks.dim, r.chunks.size));
    text(kMargin, y_ += kLine,
         r.moves.empty() ? "nothing to do"
                         : fmt::format("{} {}; received {} on the worst rank, {} on all; at least {} and {}; {}", r.launches,
                                       r.launches == 1 ? "launch" : "launches", bytes_text(r.bytes_received_max), bytes_text(r.bytes_received_total),
                                       bytes_text(r.lower_bound_max), bytes_text(r.lower_bound_total), time_text(r.nanoseconds)));
    const int width = width_ + kMargin, height = y_ + kMargin;
    return fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" font-family=\"monospace\" font-size=\"12\">\n"
        "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n{2}</svg>\n",
        width, height, body_);
  }

 private:
  static constexpr std::string_view kGrey = "fill=\"#555\"", kRed = "fill=\"#b03030\"", kBold = "font-weight=\"bold\"";

  static bool partial(const Layout& layout) {
    return std::any_of(layout.partial.begin(), layout.partial.end(), [](const auto& op) { return op.has_value(); });
  }

  void heading() {
    std::string axes = source_.axes_text();
    if (plan_.target) axes += "; then " + target_.axes_text();
    text(kMargin, y_ += kLine, fmt::format("{}{}: {}", info(plan_.dtype).name, to_string(plan_.shape), axes), kGrey);
    std::string cells = "each rank's indices, begin:end per dim";
    const bool dashes =
        partial(*plan_.from) || std::any_of(plan_.route->moves.begin(), plan_.route->moves.end(), [](const Move& m) { return partial(*m.to); });
    if (dashes) cells += "; dashed: to be combined";
    text(kMargin, y_ += kLine, cells, kGrey);
    y_ += kGap;
  }

  // What a slab's layout is to the whole tensor.
  LayoutRef shown_after(const Move& move) const {
    const redistribute::Chunks& chunks = plan_.route->chunks;
    if (chunks.count == 1) return move.to;
    Layout whole = *move.to;
    whole.dims[static_cast<std::size_t>(chunks.dim)] = plan_.from->dims[static_cast<std::size_t>(chunks.dim)];
    return placements::intern(std::move(whole));
  }

  const Grid& grid_after(const Move& move) const { return move.kind == MoveKind::transfer || plan_.on_target(move) ? target_ : source_; }

  // Widens the cells to what they will hold.
  void measure(const Layout& layout, const Grid& grid) {
    for (int block : grid.shown_blocks)
      for (int row : grid.shown_rows)
        for (int column : grid.shown_columns) {
          if (block == kSkipped || row == kSkipped || column == kSkipped) continue;
          const Shape c = grid.coordinates(block, row, column);
          std::size_t longest = fmt::format("rank {}", grid.rank_at(c)).size();
          const auto lines = owned_lines(plan_, layout, c);
          for (const std::string& line : lines) longest = std::max(longest, line.size());
          cell_width_ = std::max(cell_width_, static_cast<int>(longest) * kCharacter + 12);
          cell_height_ = std::max(cell_height_, (static_cast<int>(lines.size()) + 1) * kLine + 8);
        }
  }

  void text(int x, int at, std::string_view words, std::string_view style = "") {
    body_ += fmt::format("<text x=\"{}\" y=\"{}\"{}{}>{}</text>\n", x, at, style.empty() ? "" : " ", style, escaped(words));
    width_ = std::max(width_, x + static_cast<int>(words.size()) * kCharacter);
  }

  std::string fill_of(const std::vector<std::string>& lines) {
    if (lines.front() == kEmpty) return "white";
    const auto at = hues_.emplace(fmt::format("{}", fmt::join(lines, ", ")), static_cast<int>(hues_.size()) * 137 % 360);
    return fmt::format("hsl({}, 60%, 86%)", at.first->second);
  }

  void cell(const Layout& layout, const Grid& grid, const Shape& c, int x, int y) {
    const auto lines = owned_lines(plan_, layout, c);
    body_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"#444\"{}/>\n", x, y, cell_width_, cell_height_,
                         fill_of(lines), partial(layout) ? " stroke-dasharray=\"5 3\"" : "");
    text(x + 6, y + kLine, fmt::format("rank {}", grid.rank_at(c)), kGrey);
    for (std::size_t i = 0; i < lines.size(); ++i) text(x + 6, y + (static_cast<int>(i) + 2) * kLine, lines[i]);
  }

  // The rows and columns of one block; returns its width.
  int block(const Layout& layout, const Grid& grid, int block, int x, int top) {
    int right = x, y = top;
    for (int row : grid.shown_rows) {
      int at = x;
      for (int column : grid.shown_columns) {
        if (row != kSkipped && column != kSkipped) cell(layout, grid, grid.coordinates(block, row, column), at, y);
        else if (row != kSkipped) text(at + 4, y + cell_height_ / 2 + 4, "...");
        else if (column != kSkipped) text(at + cell_width_ / 2 - 12, y + kLine, "...");
        at += (column == kSkipped ? kDots : cell_width_) + kGap;
      }
      right = at;
      y += (row == kSkipped ? kDots : cell_height_) + kGap;
    }
    bottom_ = y;
    return right - x - kGap;
  }

  void stage(const Layout& layout, const Grid& grid) {
    text(kMargin, y_ += kLine, placements::to_string(layout, grid.mesh.names()), kBold);
    y_ += kGap;
    if (grid.blocks > 1) y_ += kLine;
    int x = kMargin;
    for (int number : grid.shown_blocks) {
      if (number == kSkipped) {
        text(x, y_ + cell_height_ / 2, "...");
        x += kDots + kBlockGap;
        continue;
      }
      if (grid.blocks > 1) text(x, y_ - kGap, grid.block_name(number), kGrey);
      const int width = block(layout, grid, number, x, y_);
      width_ = std::max(width_, x + width);
      x += std::max(width, static_cast<int>(grid.block_name(number).size()) * kCharacter) + kBlockGap;
    }
    y_ = bottom_ - kGap;
  }

  void arrow(const Move& move) {
    const int x = kMargin + 24, middle = y_ + kArrow / 2;
    body_ += fmt::format("<path d=\"M{0} {1} V{2} m-6 -9 l6 9 l6 -9\" fill=\"none\" stroke=\"{3}\" stroke-width=\"{4}\"/>\n", x, y_ + 8,
                         y_ + kArrow - 8, move.launches > 0 ? "#b03030" : "#888", move.launches > 0 ? 3 : 1.5);
    const bool sends = move.launches > 0;
    text(x + 18, middle + (sends ? -4 : 4), fmt::format("{}: {}", redistribute::to_string(move.kind), change_text(plan_, move)));
    if (sends)
      text(x + 18, middle + 14,
           fmt::format("{} on the worst rank, {} on all, {}", bytes_text(move.bytes_received_max), bytes_text(move.bytes_received_total),
                       time_text(move.nanoseconds)),
           kRed);
    y_ += kArrow;
  }

  const PlanData& plan_;
  Grid source_, target_;
  int cell_width_ = 0, cell_height_ = 0, width_ = 0, y_ = kMargin - kLine, bottom_ = 0;
  std::map<std::string, int> hues_;  // equal parts in equal colours
  std::string body_;
};

}  // namespace

std::string Plan::svg() const { return Drawing(*data_).svg(); }

}  // namespace dtensor
