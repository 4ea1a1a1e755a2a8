// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>

#include "base/error_text.h"
#include "dtensor/placement.h"
#include "placements/layout.h"

namespace dtensor {

namespace {

constexpr std::string_view kReduceOps[] = {"sum", "avg", "min", "max", "product", "band", "bor", "bxor"};

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-' || c == '+';
}

// Recursive descent over the notation. Errors name the column (from 1) of the first character that does not fit.
class Parser {
 public:
  Parser(std::string_view text, std::string_view subject) : text_(text), subject_(subject) {}

  Placements placements() {
    const bool braces = accept('{');
    std::vector<AxisPlacement> named;
    std::vector<Placement> positional;
    while (!(braces ? peek() == '}' : at_end())) {
      if (!named.empty() || !positional.empty()) expect(',', braces ? "',' or '}'" : "','");
      if (at_end()) fail_at(position_, braces ? "an axis name or '}'" : "an axis name");
      const std::size_t start = position_;
      const std::string axis = axis_name();
      const bool by_name = !axis.empty() && accept(':');
      if (by_name && !positional.empty()) fail_at(start, "a placement without an axis name, as before");
      if (!by_name && (!named.empty() || !(axis.empty() || is_kind(axis)))) fail_at(position_, axis.empty() ? "an axis name" : "':' and a placement");
      if (by_name) {
        named.emplace_back(axis, placement());
      } else {
        position_ = start;
        positional.push_back(placement());
      }
    }
    if (braces) expect('}', "'}'");
    if (!positional.empty()) return Placements(std::span<const Placement>(positional));
    return named.empty() ? Placements() : Placements(std::move(named));
  }

  placements::Described described() {
    placements::Described result;
    const std::size_t start = (skip(), position_);
    const std::string dtype = word();
    bool known = false;
    for (int i = 0; i < kDtypeCount; ++i)
      if (info(static_cast<Dtype>(i)).name == dtype) {
        result.dtype = static_cast<Dtype>(i);
        known = true;
      }
    if (!known) fail_at(start, "a dtype such as f32");
    expect('[', "'['");
    while (peek() != ']') {
      if (!result.shape.empty()) expect(',', "',' or ']'");
      const std::size_t column = (skip(), position_);
      if (result.shape.ndim() == kMaxDims) fail_at(column, "at most 8 dims");
      const std::int64_t size = integer("a size");
      if (size < 0) fail_at(column, "a size of 0 or more");
      result.shape.push_back(size);
    }
    expect(']', "']'");
    if (peek() == '{') result.placements = placements();
    return result;
  }

  void finish() {
    if (!at_end()) fail_at(position_, "the end");
  }

 private:
  static bool is_kind(std::string_view word) { return word == "R" || word == "S" || word == "SS" || word == "Ragged" || word == "P"; }

  Placement placement() {
    const std::size_t start = (skip(), position_);
    const std::string kind = word();
    if (kind == "R") return Replicate{};
    if (kind == "S") {
      expect('(', "'('");
      const int dim = dim_number();
      expect(')', "')'");
      return Shard(dim);
    }
    if (kind == "SS") {
      expect('(', "'('");
      const int dim = dim_number();
      expect(',', "',' and the split factor");
      const std::int64_t factor = integer("the split factor");
      expect(')', "')'");
      return StridedShard(dim, factor);
    }
    if (kind == "Ragged") return ragged();
    if (kind == "P") {
      expect('(', "'(' and sum, avg, min, max or product");
      const std::size_t column = (skip(), position_);
      const std::string name = word();
      for (std::size_t i = 0; i < std::size(kReduceOps); ++i) {
        if (kReduceOps[i] != name) continue;
        expect(')', "')'");
        return Partial(static_cast<ReduceOp>(i));
      }
      fail_at(column, "sum, avg, min, max or product");
    }
    fail_at(start, "a placement: S(0), SS(0, 2), Ragged(0, 4 2), R or P(sum)");
  }

  RaggedShard ragged() {
    expect('(', "'('");
    RaggedShard result{dim_number(), {}};
    expect(',', "',' and the sizes");
    do {
      const std::size_t column = (skip(), position_);
      result.sizes.push_back(integer("a size"));
      if (result.sizes.back() < 0) fail_at(column, "a size of 0 or more");
    } while (peek() != ')' && !at_end());
    expect(')', "')'");
    return result;
  }

  int dim_number() {
    const std::size_t column = (skip(), position_);
    const std::int64_t dim = integer("a dim");
    if (dim < -kMaxDims || dim >= kMaxDims) fail_at(column, "a dim from -8 to 7");
    return static_cast<int>(dim);
  }

  std::int64_t integer(std::string_view what) {
    skip();
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text_.data() + position_, text_.data() + text_.size(), value);
    if (error != std::errc{}) fail_at(position_, what);
    position_ = static_cast<std::size_t>(end - text_.data());
    return value;
  }

  std::string word() {
    skip();
    const std::size_t start = position_;
    while (position_ < text_.size() && is_name_char(text_[position_])) ++position_;
    return std::string(text_.substr(start, position_ - start));
  }

  // Names joined by '+'; spaces around '+' are not kept.
  std::string axis_name() {
    std::string name = word();
    while (!name.empty() && (name.back() == '+' || peek() == '+')) {
      const std::string more = word();
      if (more.empty()) fail_at(position_, "an axis name");
      name += more;
    }
    return name;
  }

  void skip() {
    while (position_ < text_.size() && (text_[position_] == ' ' || text_[position_] == '\t' || text_[position_] == '\n')) ++position_;
  }
  char peek() {
    skip();
    return position_ < text_.size() ? text_[position_] : '\0';
  }
  bool at_end() {
    skip();
    return position_ == text_.size();
  }
  bool accept(char c) {
    if (peek() != c) return false;
    ++position_;
    return true;
  }
  void expect(char c, std::string_view what) {
    if (!accept(c)) fail_at(position_, what);
  }
  [[noreturn]] void fail_at(std::size_t position, std::string_view expected) const {
    const std::string found = position < text_.size() ? fmt::format("'{}'", text_.substr(position, 12)) : "the end";
    base::fail<InvalidArgument>("{}: expected {} at column {} (found {} in '{}'); write {}", subject_, expected, position + 1, found, text_,
                                subject_ == "notation" ? "such as f32[8, 16]{dp: S(0), tp: P(sum)}" : "such as {dp: S(0), tp: P(sum)}");
  }

  std::string_view text_;
  std::string_view subject_;
  std::size_t position_ = 0;
};

bool is_number(std::string_view text) { return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos; }

// Whether `axis` is one of the names that '+' joins in `joint`.
bool names_axis(std::string_view joint, std::string_view axis) {
  if (joint == axis) return true;
  for (std::size_t begin = 0; begin <= joint.size();) {
    const std::size_t end = std::min(joint.find('+', begin), joint.size());
    if (joint.substr(begin, end - begin) == axis) return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

std::string to_string(ReduceOp op) { return std::string(kReduceOps[static_cast<std::size_t>(op)]); }

std::string to_string(const Placement& placement) {
  if (const auto* p = placement.as<Shard>()) return fmt::format("S({})", p->dim);
  if (const auto* p = placement.as<StridedShard>()) return fmt::format("SS({}, {})", p->dim, p->split_factor);
  if (const auto* p = placement.as<RaggedShard>()) return fmt::format("Ragged({}, {})", p->dim, fmt::join(p->sizes, " "));
  if (const auto* p = placement.as<Partial>()) return fmt::format("P({})", to_string(p->op));
  return "R";
}

std::string to_string(const Placements& placements) {
  std::string text = "{";
  for (const AxisPlacement& entry : placements.entries())
    text += fmt::format("{}{}: {}", text.size() == 1 ? "" : ", ", entry.axis, to_string(entry.placement));
  return text + "}";
}

Placements::Placements(std::span<const Placement> positional) {
  for (const Placement& placement : positional) by_axis_.emplace_back(std::to_string(by_axis_.size()), placement);
}

Placements Placements::parse(std::string_view notation) {
  Parser parser(notation, "placements");
  Placements result = parser.placements();
  parser.finish();
  return result;
}

Placement Placements::operator[](std::string_view axis) const {
  for (const AxisPlacement& entry : by_axis_)
    if (names_axis(entry.axis, axis)) return entry.placement;
  // A name would silently be Replicate in a list that knows positions only.
  if (!named_ && !by_axis_.empty() && !is_number(axis))
    base::fail<InvalidArgument>("placements: axis '{}' of a list by position ({}); ask by the axis' position", axis, to_string(*this));
  return Replicate{};
}

placements::Described placements::parse_described(std::string_view text) {
  Parser parser(text, "notation");
  Described result = parser.described();
  parser.finish();
  return result;
}

}  // namespace dtensor
