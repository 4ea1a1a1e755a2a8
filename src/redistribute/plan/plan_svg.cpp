// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "redistribute/plan/plan_data.h"

namespace dtensor {
namespace {

using redistribute::bytes_text;
using redistribute::Layout;
using redistribute::Move;
using redistribute::PlanData;

constexpr int kMargin = 20, kCellHeight = 44, kTitle = 22, kArrow = 64, kCharacter = 8;
constexpr std::int64_t kMostCells = 16;

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

Shape coordinates_of(const Layout& layout, std::int64_t rank) {
  Shape c = Shape::filled(layout.mesh_ndim(), 0);
  for (int a = layout.mesh_ndim() - 1; a >= 0; --a) {
    const std::int64_t size = layout.mesh_sizes[static_cast<std::size_t>(a)];
    c[a] = rank % size;
    rank /= size;
  }
  return c;
}

// "0:4, 0:8": what a rank owns, dimension by dimension.
std::string owned_text(const PlanData& plan, const Layout& layout, std::int64_t rank) {
  const Shape c = coordinates_of(layout, rank);
  std::vector<std::string> dims;
  for (int d = 0; d < plan.shape.ndim(); ++d) {
    const auto runs = placements::owned_runs(layout, d, plan.shape[d], c);
    if (runs.empty()) return "empty";
    const placements::Run &first = runs.front(), &last = runs.back();
    dims.push_back(fmt::format("{}{}:{}", runs.size() > 1 ? "~" : "", first.begin, last.begin + last.length));
  }
  return dims.empty() ? "value" : fmt::format("{}", fmt::join(dims, ", "));
}

struct Drawing {
  const PlanData& plan;
  std::int64_t ranks = 1, cells = 1;
  int cell_width = 0, width = 0, y = kMargin;
  std::string body;

  std::vector<const Layout*> stages() const {
    std::vector<const Layout*> result{plan.from.get()};
    for (const Move& m : plan.route->moves) result.push_back(m.to.get());
    return result;
  }
  void text(int x, int at, std::string_view words, std::string_view style = "") {
    body += fmt::format("<text x=\"{}\" y=\"{}\"{}{}>{}</text>\n", x, at, style.empty() ? "" : " ", style, escaped(words));
    width = std::max(width, x + static_cast<int>(words.size()) * kCharacter + kMargin);
  }
  void stage(const Layout& layout) {
    y += kTitle;
    text(kMargin, y - 6, placements::to_string(layout, plan.axis_names), "font-weight=\"bold\"");
    for (std::int64_t r = 0; r < cells; ++r) {
      const int x = kMargin + static_cast<int>(r) * cell_width;
      body += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"hsl({}, 60%, 86%)\" stroke=\"#444\"/>\n", x, y, cell_width - 4,
                          kCellHeight, r * 137 % 360);
      text(x + 6, y + 17, fmt::format("rank {}", r), "fill=\"#555\"");
      text(x + 6, y + 35, owned_text(plan, layout, r));
    }
    if (cells < ranks) text(kMargin + static_cast<int>(cells) * cell_width + 4, y + 26, fmt::format("and {} more", ranks - cells), "fill=\"#555\"");
    y += kCellHeight;
  }
  void arrow(const Move& move) {
    const int x = kMargin + 24;
    body += fmt::format("<path d=\"M{0} {1} V{2} m-5 -8 l5 8 l5 -8\" fill=\"none\" stroke=\"{3}\" stroke-width=\"2\"/>\n", x, y + 6, y + kArrow - 6,
                        move.launches > 0 ? "#b03030" : "#888");
    text(x + 16, y + kArrow / 2 - 4, fmt::format("{}: {}", redistribute::to_string(move.kind), change_text(plan, move)));
    if (move.launches > 0)
      text(x + 16, y + kArrow / 2 + 14,
           fmt::format("{} on the worst rank, {} on all, {:.3g} us", bytes_text(move.bytes_received_max), bytes_text(move.bytes_received_total),
                       static_cast<double>(move.nanoseconds) / 1000),
           "fill=\"#b03030\"");
    y += kArrow;
  }
};

}  // namespace

std::string Plan::svg() const {
  Drawing d{*data_, 1, 1, 0, 0, kMargin, {}};
  for (int size : data_->from->mesh_sizes) d.ranks *= size;
  d.cells = std::min(d.ranks, kMostCells);
  std::size_t longest = 8;
  for (const Layout* layout : d.stages())
    for (std::int64_t r = 0; r < d.cells; ++r) longest = std::max(longest, owned_text(*data_, *layout, r).size());
  d.cell_width = static_cast<int>(longest) * kCharacter + 16;
  d.width = 2 * kMargin + static_cast<int>(d.cells) * d.cell_width;
  d.stage(*data_->from);
  for (const Move& move : data_->route->moves) {
    d.arrow(move);
    d.stage(*move.to);
  }
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" font-family=\"monospace\" font-size=\"12\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n{2}</svg>\n",
      d.width, d.y + kMargin, d.body);
}

}  // namespace dtensor
