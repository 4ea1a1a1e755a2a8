// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "base/error_text.h"
#include "dtensor/error.h"
#include "propagate/rule.h"

namespace dtensor::propagate {
namespace {

// One strategy's text with a cursor; errors name the column in the whole rule.
class Reader {
 public:
  Reader(std::string_view op, std::string_view whole, std::size_t begin, std::size_t end) : op_(op), whole_(whole), at_(begin), end_(end) {}

  bool done() const { return at_ >= end_; }
  char peek() const { return done() ? '\0' : whole_[at_]; }
  bool starts(std::string_view token) const { return whole_.substr(at_, end_ - at_).starts_with(token); }
  bool take(std::string_view token) {
    if (!starts(token)) return false;
    at_ += token.size();
    return true;
  }
  int skip_spaces() {
    int n = 0;
    while (!done() && peek() == ' ') ++at_, ++n;
    return n;
  }
  std::string name() {
    const std::size_t from = at_;
    while (!done() && (std::isalnum(static_cast<unsigned char>(peek())) != 0 || peek() == '_')) ++at_;
    if (at_ == from) fail("expected a factor name");
    return std::string(whole_.substr(from, at_ - from));
  }
  int number() {
    int value = 0;
    const auto r = std::from_chars(whole_.data() + at_, whole_.data() + end_, value);
    if (r.ec != std::errc()) fail("expected a number");
    at_ = static_cast<std::size_t>(r.ptr - whole_.data());
    return value;
  }
  std::int64_t integer() {
    std::int64_t value = 0;
    const auto r = std::from_chars(whole_.data() + at_, whole_.data() + end_, value);
    if (r.ec != std::errc()) fail("expected a number");
    at_ = static_cast<std::size_t>(r.ptr - whole_.data());
    return value;
  }
  bool at_digit() const { return std::isdigit(static_cast<unsigned char>(peek())) != 0; }
  [[noreturn]] void fail(std::string_view what) const {
    throw InvalidArgument(fmt::format("{}: sharding rule: {} (column {} of \"{}\"); see docs/rules.md for the notation", op_, what, at_ + 1, whole_));
  }

 private:
  std::string_view op_, whole_;
  std::size_t at_, end_;
};

struct ParsedDim {
  std::vector<std::string> names;  // empty: "1"
  bool ellipsis = false;
};
using ParsedOperand = std::vector<ParsedDim>;

ParsedDim parse_dim(Reader& r) {
  ParsedDim dim;
  if (r.take("...")) {
    dim.ellipsis = true;
  } else if (r.take("(")) {
    while (true) {
      r.skip_spaces();
      if (r.take(")")) break;
      dim.names.push_back(r.name());
    }
  } else if (r.at_digit()) {
    if (r.number() != 1) r.fail("the only number among dims is 1");
  } else {
    dim.names.push_back(r.name());
  }
  return dim;
}

// Reads operands up to "->" (or, for results, up to two spaces, ';' or the end).
std::vector<ParsedOperand> parse_operands(Reader& r, bool results) {
  std::vector<ParsedOperand> list(1);
  r.skip_spaces();
  while (!r.done()) {
    if (!results && r.take("->")) return list;
    if (r.peek() == ';') return list;
    if (r.take(",")) {
      list.emplace_back();
    } else if (r.starts("()")) {
      r.take("()");
    } else {
      list.back().push_back(parse_dim(r));
    }
    const int spaces = r.skip_spaces();
    if (results && spaces >= 2) return list;
  }
  if (!results) r.fail("expected '->'");
  return list;
}

struct Clause {
  std::string name;
  Factor factor;   // kind, op, addends, map
  std::string of;  // of window
};
struct Clauses {
  std::vector<Clause> kinds;
  Strategy flags;
};

ReduceOp parse_op(Reader& r) {
  for (ReduceOp op : {ReduceOp::sum, ReduceOp::avg, ReduceOp::min, ReduceOp::max, ReduceOp::product})
    if (r.take(to_string(op))) return op;
  r.fail("expected sum, min, max or product");
}

// "- 3", "+ 2", "4"; nothing where no sign stands and one is needed.
std::optional<std::int64_t> parse_signed(Reader& r, bool sign_needed) {
  r.skip_spaces();
  const bool minus = r.take("-");
  if (!minus && !r.take("+") && sign_needed) return {};
  r.skip_spaces();
  if (!r.at_digit()) r.fail("expected a number");
  const std::int64_t value = r.integer();
  return minus ? -value : value;
}

// What stands between the parentheses of window(...); returns the name of the factor.
std::string parse_map(Reader& r, redistribute::WindowMap& map) {
  r.skip_spaces();
  const bool minus = r.take("-");
  r.skip_spaces();
  if (r.at_digit()) map.num = r.integer();
  if (minus) map.num = -map.num;
  r.skip_spaces();
  std::string of = r.name();
  map.low = map.high = parse_signed(r, true).value_or(0);
  r.skip_spaces();
  if (r.take("..")) map.high = *parse_signed(r, false);
  r.skip_spaces();
  if (r.take("/")) {
    r.skip_spaces();
    if (!r.at_digit() || r.peek() == '0') r.fail("expected a positive number");
    map.den = r.integer();
  }
  r.skip_spaces();
  if (r.take(",")) {
    r.skip_spaces();
    if (!r.take("wrap")) r.fail("expected 'wrap'");
    map.wrap = true;
    r.skip_spaces();
  }
  if (!r.take(")")) r.fail("expected ')'");
  return of;
}

void parse_kind(Reader& r, Factor& factor, std::string& of) {
  if (r.take("pass") || r.take("deposit")) return;  // a part of the result is written as one of any dimension is
  if (r.take("whole")) {
    factor.kind = FactorKind::whole;
  } else if (r.take("lookup")) {
    factor.kind = FactorKind::reduce;
  } else if (r.take("reduce(")) {
    factor.kind = FactorKind::reduce;
    factor.op = parse_op(r);
    r.skip_spaces();
    if (r.take(",")) {
      r.skip_spaces();
      if (!r.take("addend")) r.fail("expected 'addend'");
      for (r.skip_spaces(); r.at_digit(); r.skip_spaces()) factor.addends.push_back(r.number() - 1);
    }
    if (!r.take(")")) r.fail("expected ')'");
  } else if (r.take("window(")) {
    factor.kind = FactorKind::window;
    of = parse_map(r, factor.map);
  } else {
    r.fail("expected pass, whole, lookup, deposit, reduce(op) or window(map)");
  }
}

void parse_clause(Reader& r, Clauses& clauses) {
  if (r.take("bilinear")) {
    clauses.flags.bilinear = true;
    r.skip_spaces();
    if (r.at_digit()) {
      clauses.flags.bilinear_a = r.number() - 1;
      r.skip_spaces();
      clauses.flags.bilinear_b = r.number() - 1;
    }
    return;
  }
  if (r.take("linear")) {
    clauses.flags.linear = true;
    for (r.skip_spaces(); r.at_digit(); r.skip_spaces()) clauses.flags.linear_operands.push_back(r.number() - 1);
    return;
  }
  if (r.take("monotone")) {
    clauses.flags.monotone = true;
    return;
  }
  std::vector<std::string> names;
  do {
    r.skip_spaces();
    names.push_back(r.name());
    r.skip_spaces();
  } while (r.take(","));
  if (!r.take(":")) r.fail("expected ':'");
  r.skip_spaces();
  Clause clause;
  parse_kind(r, clause.factor, clause.of);
  for (std::string& name : names) {
    clause.name = std::move(name);
    clauses.kinds.push_back(clause);
  }
}

Clauses parse_clauses(Reader& r) {
  Clauses clauses;
  for (r.skip_spaces(); !r.done(); r.skip_spaces()) {
    if (r.take(";")) continue;
    parse_clause(r, clauses);
    r.skip_spaces();
    if (!r.done() && r.peek() != ';') r.fail("expected ';'");
  }
  return clauses;
}

// Turns parsed operands into factor indices for given shapes.
class Resolver {
 public:
  Resolver(Reader& r, Strategy& s) : reader_(r), strategy_(s) {}

  int factor(const std::string& name) {
    for (std::size_t i = 0; i < strategy_.factors.size(); ++i)
      if (strategy_.factors[i].name == name) return static_cast<int>(i);
    strategy_.factors.emplace_back().name = name;
    return static_cast<int>(strategy_.factors.size()) - 1;
  }

  OperandDims dims(const ParsedOperand& parsed, int ndim) {
    const auto ellipses = std::count_if(parsed.begin(), parsed.end(), [](const ParsedDim& d) { return d.ellipsis; });
    const int named = static_cast<int>(parsed.size()) - static_cast<int>(ellipses);
    if (ellipses > 1) reader_.fail("'...' twice in one operand");
    if (ellipses == 0 ? named != ndim : named > ndim) reader_.fail(fmt::format("an operand of {} dims is written with {}", ndim, named));
    OperandDims out;
    for (const ParsedDim& d : parsed) {
      if (d.ellipsis) {
        // Aligned from the right: e0 is the last of the broadcast dimensions.
        for (int i = ndim - named - 1; i >= 0; --i) out.push_back({factor("..." + std::to_string(i))});
        continue;
      }
      DimFactors f;
      for (const std::string& name : d.names) f.push_back(factor(name));
      out.push_back(std::move(f));
    }
    return out;
  }

 private:
  Reader& reader_;
  Strategy& strategy_;
};

std::int64_t known_product(const Strategy& s, const DimFactors& dim, int& unknown) {
  std::int64_t product = 1;
  unknown = -1;
  for (int f : dim) {
    const std::int64_t size = s.factors[static_cast<std::size_t>(f)].size;
    if (size >= 0) {
      product *= size;
    } else if (unknown == -1) {
      unknown = f;
    } else {
      unknown = -2;
    }
  }
  return product;
}

void find_sizes(Strategy& s, std::span<const Shape> operands, const std::vector<bool>& present, std::span<const Shape> results) {
  const auto single = [&](const OperandDims& dims, const Shape& shape) {
    for (std::size_t d = 0; d < dims.size(); ++d) {
      if (dims[d].size() != 1) continue;
      std::int64_t& size = s.factors[static_cast<std::size_t>(dims[d][0])].size;
      if (size < 0 || size == 1) size = shape[d];  // a broadcast 1 gives way
    }
  };
  for (std::size_t i = 0; i < s.results.size(); ++i) single(s.results[i], results[i]);
  for (std::size_t i = 0; i < s.operands.size(); ++i)
    if (present[i]) single(s.operands[i], operands[i]);
  const auto open = [&] { return std::any_of(s.factors.begin(), s.factors.end(), [](const Factor& f) { return f.size < 0; }); };
  for (std::size_t round = 0; round <= s.factors.size() && open(); ++round) {
    const auto solve = [&](const OperandDims& dims, const Shape& shape) {
      for (std::size_t d = 0; d < dims.size(); ++d) {
        int unknown = -1;
        const std::int64_t known = known_product(s, dims[d], unknown);
        if (unknown >= 0 && known > 0) s.factors[static_cast<std::size_t>(unknown)].size = shape[d] / known;
      }
    };
    for (std::size_t i = 0; i < s.results.size(); ++i) solve(s.results[i], results[i]);
    for (std::size_t i = 0; i < s.operands.size(); ++i)
      if (present[i]) solve(s.operands[i], operands[i]);
  }
  for (Factor& f : s.factors)
    if (f.size < 0) f.size = 1;
}

// An operand dimension of size one against a larger factor lacks it.
void drop_broadcast(Strategy& s, std::span<const Shape> operands, const std::vector<bool>& present) {
  for (std::size_t i = 0; i < s.operands.size(); ++i) {
    if (!present[i]) continue;
    for (std::size_t d = 0; d < s.operands[i].size(); ++d) {
      DimFactors& f = s.operands[i][d];
      if (f.size() == 1 && s.factors[static_cast<std::size_t>(f[0])].size != operands[i][d]) f.clear();
    }
  }
}

bool occurs(const std::vector<OperandDims>& list, int factor, bool alone) {
  for (const OperandDims& dims : list)
    for (const DimFactors& d : dims)
      if (std::find(d.begin(), d.end(), factor) != d.end() && (alone || d.size() > 1)) return true;
  return false;
}

// The factor through which a window reads. A window is a whole dimension of operands and of no result.
int window_factor(const Reader& r, const Strategy& s, const Clause& clause) {
  const auto find = [&](const std::string& name) {
    const auto it = std::find_if(s.factors.begin(), s.factors.end(), [&](const Factor& f) { return f.name == name; });
    return it == s.factors.end() ? -1 : static_cast<int>(it - s.factors.begin());
  };
  const int self = find(clause.name), of = find(clause.of);
  if (of < 0 || of == self || s.factors[static_cast<std::size_t>(of)].kind == FactorKind::window)
    r.fail(fmt::format("'{}' is read through '{}', which is no other factor", clause.name, clause.of));
  if (occurs(s.results, self, true) || occurs(s.operands, self, false))
    r.fail(fmt::format("'{}' is read through a window, so it must be a dimension of operands alone", clause.name));
  return of;
}

Strategy parse_strategy(Reader r, std::span<const Shape> operands, const std::vector<bool>& present, std::span<const Shape> results) {
  Strategy s;
  const auto parsed_operands = parse_operands(r, false);
  const auto parsed_results = parse_operands(r, true);
  Clauses clauses = parse_clauses(r);
  s.linear = clauses.flags.linear;
  s.bilinear = clauses.flags.bilinear;
  s.monotone = clauses.flags.monotone;
  s.linear_operands = clauses.flags.linear_operands;
  s.bilinear_a = clauses.flags.bilinear_a;
  s.bilinear_b = clauses.flags.bilinear_b;
  const bool none = operands.empty() && parsed_operands.size() == 1 && parsed_operands[0].empty();
  if (!none && parsed_operands.size() != operands.size())
    r.fail(fmt::format("{} operands are written for {} inputs", parsed_operands.size(), operands.size()));
  if (parsed_results.size() != results.size()) r.fail(fmt::format("{} results are written for {}", parsed_results.size(), results.size()));
  Resolver resolver(r, s);
  for (std::size_t i = 0; i < operands.size(); ++i)
    s.operands.push_back(present[i] ? resolver.dims(parsed_operands[i], operands[i].ndim()) : OperandDims{});
  const std::size_t operand_factors = s.factors.size();
  for (std::size_t i = 0; i < results.size(); ++i) s.results.push_back(resolver.dims(parsed_results[i], results[i].ndim()));
  for (const Clause& clause : clauses.kinds) {
    for (Factor& f : s.factors) {
      if (f.name != clause.name && !(clause.name == "..." && f.name.starts_with("..."))) continue;
      f.kind = clause.factor.kind;
      f.op = clause.factor.op;
      f.addends = clause.factor.addends;
      f.map = clause.factor.map;
      if (f.kind == FactorKind::window) f.of = window_factor(r, s, clause);
    }
  }
  const auto read_through = [&](std::size_t f) {
    return std::any_of(s.factors.begin(), s.factors.end(), [f](const Factor& w) { return w.of == static_cast<int>(f); });
  };
  if (!operands.empty())
    for (std::size_t f = operand_factors; f < s.factors.size(); ++f)
      if (!read_through(f)) s.factors[f].kind = FactorKind::whole;  // no operand brings a split
  return s;
}

std::vector<Strategy> parse_strategies(std::string_view op, std::string_view text, std::span<const Shape> operands, const std::vector<bool>& present,
                                       std::span<const Shape> results) {
  std::vector<Strategy> strategies;
  for (std::size_t begin = 0; begin <= text.size();) {
    std::size_t end = text.find(" | ", begin);
    if (end == std::string_view::npos) end = text.size();
    Strategy s = parse_strategy(Reader(op, text, begin, end), operands, present, results);
    s.text = std::string(text.substr(begin, end - begin));
    strategies.push_back(std::move(s));
    begin = end + 3;
  }
  return strategies;
}

void fit(Strategy& s, std::span<const Shape> operands, const std::vector<bool>& present, std::span<const Shape> results) {
  find_sizes(s, operands, present, results);
  drop_broadcast(s, operands, present);
}

}  // namespace

std::vector<Strategy> parse_rule(std::string_view op, std::string_view text, std::span<const Shape> operands, const std::vector<bool>& present,
                                 std::span<const Shape> results) {
  std::vector<Strategy> strategies = parse_strategies(op, text, operands, present, results);
  for (Strategy& s : strategies) fit(s, operands, present, results);
  return strategies;
}

bool RuleCache::Entry::matches(std::string_view wanted, std::span<const Shape> operands, const std::vector<bool>& present,
                               std::span<const Shape> results) const {
  if (text != wanted || ndims.size() != operands.size() + results.size()) return false;
  for (std::size_t i = 0; i < operands.size(); ++i)
    if (ndims[i] != (present[i] ? operands[i].ndim() : -1)) return false;
  for (std::size_t i = 0; i < results.size(); ++i)
    if (ndims[operands.size() + i] != results[i].ndim()) return false;
  return true;
}

const std::vector<Strategy>& RuleCache::get(std::string_view op, std::string_view text, std::span<const Shape> operands,
                                            const std::vector<bool>& present, std::span<const Shape> results) {
  auto it = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.matches(text, operands, present, results); });
  if (it == entries_.end()) {
    Entry entry{.text = std::string(text), .ndims = {}, .strategies = parse_strategies(op, text, operands, present, results), .dims = {}};
    for (std::size_t i = 0; i < operands.size(); ++i) entry.ndims.push_back(present[i] ? operands[i].ndim() : -1);
    for (const Shape& shape : results) entry.ndims.push_back(shape.ndim());
    for (const Strategy& s : entry.strategies) entry.dims.push_back(s.operands);
    if (entries_.size() == kLimit) entries_.clear();
    it = entries_.insert(entries_.end(), std::move(entry));
  }
  for (std::size_t k = 0; k < it->strategies.size(); ++k) {
    Strategy& s = it->strategies[k];
    for (Factor& f : s.factors) f.size = -1;
    s.operands = it->dims[k];
    fit(s, operands, present, results);
  }
  return it->strategies;
}

}  // namespace dtensor::propagate
