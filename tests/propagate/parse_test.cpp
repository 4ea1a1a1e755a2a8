// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>

#include "dtensor/error.h"
#include "propagate/rule.h"

using namespace dtensor;
using namespace dtensor::propagate;

namespace {

std::vector<Strategy> parse(std::string_view rule, const std::vector<Shape>& in, const std::vector<Shape>& out) {
  return parse_rule("op", rule, in, std::vector<bool>(in.size(), true), out);
}

std::string error_of(std::string_view rule, const std::vector<Shape>& in, const std::vector<Shape>& out) {
  try {
    parse(rule, in, out);
  } catch (const InvalidArgument& e) { return e.what(); }
  return "no error";
}

// "m(4) k(5:reduce)": the factors of a dimension.
std::string show(const Strategy& s, const DimFactors& dim) {
  std::string text;
  for (int f : dim) {
    const Factor& factor = s.factors[static_cast<std::size_t>(f)];
    text += (text.empty() ? "" : " ") + factor.name + "=" + std::to_string(factor.size);
  }
  return text.empty() ? "1" : text;
}
std::string show(const Strategy& s, const OperandDims& dims) {
  std::string text;
  for (const DimFactors& d : dims) text += "[" + show(s, d) + "]";
  return text;
}
const Factor& factor(const Strategy& s, std::string_view name) {
  for (const Factor& f : s.factors)
    if (f.name == name) return f;
  FAIL("no factor " << std::string(name));
  return s.factors[0];
}

}  // namespace

TEST_CASE("a matmul rule names three factors with the sizes of its operands") {
  const auto s = parse("m k, k n -> m n    k: reduce(sum); bilinear", {{4, 5}, {5, 6}}, {{4, 6}});
  REQUIRE(s.size() == 1);
  CHECK(show(s[0], s[0].operands[0]) == "[m=4][k=5]");
  CHECK(show(s[0], s[0].operands[1]) == "[k=5][n=6]");
  CHECK(show(s[0], s[0].results[0]) == "[m=4][n=6]");
  CHECK(factor(s[0], "k").kind == FactorKind::reduce);
  CHECK(factor(s[0], "k").op == ReduceOp::sum);
  CHECK(factor(s[0], "m").kind == FactorKind::pass);
  CHECK(s[0].bilinear);
  CHECK_FALSE(s[0].linear);
}

TEST_CASE("addends, numbers of linear and bilinear operands count from one in the text and from zero in the value") {
  const auto s = parse("b k, n k, n -> b n    k: reduce(sum, addend 3); bilinear 1 2; linear 1 3", {{4, 5}, {6, 5}, {6}}, {{4, 6}});
  CHECK(factor(s[0], "k").addends == std::vector<int>{2});
  CHECK(s[0].bilinear_a == 0);
  CHECK(s[0].bilinear_b == 1);
  CHECK(s[0].linear_operands == std::vector<int>{0, 2});
}

TEST_CASE("an ellipsis aligns from the right and a broadcast dimension lacks its factor") {
  const auto s = parse("..., ... -> ...    linear", {{4, 1, 3}, {2, 1}}, {{4, 2, 3}});
  CHECK(show(s[0], s[0].results[0]) == "[...2=4][...1=2][...0=3]");
  CHECK(show(s[0], s[0].operands[0]) == "[...2=4][1][...0=3]");
  CHECK(show(s[0], s[0].operands[1]) == "[...1=2][1]");
}

TEST_CASE("an ellipsis of no dimensions leaves the named ones") {
  const auto s = parse("... m k, ... k n -> ... m n    k: reduce(sum)", {{4, 5}, {7, 5, 6}}, {{7, 4, 6}});
  CHECK(show(s[0], s[0].operands[0]) == "[m=4][k=5]");
  CHECK(show(s[0], s[0].operands[1]) == "[...0=7][k=5][n=6]");
}

TEST_CASE("sizes of the factors of a product follow from the dimensions that have them alone") {
  const auto s = parse("(a b) c -> a (b c)", {{6, 5}}, {{2, 15}});
  CHECK(show(s[0], s[0].operands[0]) == "[a=2 b=3][c=5]");
  CHECK(show(s[0], s[0].results[0]) == "[a=2][b=3 c=5]");
}

TEST_CASE("a dimension written 1 has no factor, and () is an operand without dimensions") {
  const auto s = parse("1 n, () -> n 1", {{5, 7}, {}}, {{7, 3}});
  CHECK(show(s[0], s[0].operands[0]) == "[1][n=7]");
  CHECK(s[0].operands[1].empty());
  CHECK(show(s[0], s[0].results[0]) == "[n=7][1]");
}

TEST_CASE("kinds: whole, lookup as a sum, min and max, and one clause for several factors") {
  const auto s = parse("a b c v -> a  a: whole; b, c: reduce(max); v: lookup", {{2, 3, 4, 5}}, {{2}});
  CHECK(factor(s[0], "a").kind == FactorKind::whole);
  CHECK(factor(s[0], "b").op == ReduceOp::max);
  CHECK(factor(s[0], "c").kind == FactorKind::reduce);
  CHECK(factor(s[0], "v").kind == FactorKind::reduce);
  CHECK(factor(s[0], "v").op == ReduceOp::sum);
}

TEST_CASE("alternatives stand in the order of the text") {
  const auto s = parse("a b -> a b  b: whole | a b -> a b  a: whole", {{2, 3}}, {{2, 3}});
  REQUIRE(s.size() == 2);
  CHECK(factor(s[0], "b").kind == FactorKind::whole);
  CHECK(factor(s[1], "a").kind == FactorKind::whole);
  CHECK(factor(s[1], "b").kind == FactorKind::pass);
}

TEST_CASE("a factor that only the result has may not be split") {
  const auto s = parse("n -> n m", {{5}}, {{5, 4}});
  CHECK(factor(s[0], "m").kind == FactorKind::whole);
  CHECK(factor(s[0], "n").kind == FactorKind::pass);
}

TEST_CASE("an absent operand has no dimensions") {
  const auto s = parse_rule("op", "b k, n k, n -> b n    k: reduce(sum, addend 3)", std::vector<Shape>{{4, 5}, {6, 5}, {}}, {true, true, false},
                            std::vector<Shape>{{4, 6}});
  CHECK(s[0].operands[2].empty());
}

TEST_CASE("a slip names its column and the whole rule") {
  CHECK(error_of("m k, k n -> m n    k: redduce(sum)", {{4, 5}, {5, 6}}, {{4, 6}}) ==
        "op: sharding rule: expected pass, whole, lookup, deposit, reduce(op) or window(map) (column 23 of \"m k, k n -> m n    k: redduce(sum)\"); "
        "see "
        "docs/rules.md for "
        "the notation");
  CHECK(error_of("m k, k n", {{4, 5}, {5, 6}}, {{4, 6}}).find("expected '->' (column 9 of") != std::string::npos);
  CHECK(error_of("m k -> m  k: reduce(sum", {{4, 5}}, {{4}}).find("expected ')' (column 24 of") != std::string::npos);
  CHECK(error_of("m k -> m  k: reduce(total)", {{4, 5}}, {{4}}).find("expected sum, min, max or product (column 21 of") != std::string::npos);
  CHECK(error_of("m 2 -> m", {{4, 5}}, {{4}}).find("the only number among dims is 1 (column 4 of") != std::string::npos);
  CHECK(error_of("m k -> m  k reduce(sum)", {{4, 5}}, {{4}}).find("expected ':' (column 13 of") != std::string::npos);
  CHECK(error_of("m & -> m", {{4, 5}}, {{4}}).find("expected a factor name (column 3 of") != std::string::npos);
}

TEST_CASE("numbers of operands, results and dimensions that do not fit are refused") {
  CHECK(error_of("m k -> m", {{4, 5}, {5, 6}}, {{4}}).find("1 operands are written for 2 inputs") != std::string::npos);
  CHECK(error_of("m -> m, m", {{4}}, {{4}}).find("2 results are written for 1") != std::string::npos);
  CHECK(error_of("m k l -> m", {{4, 5}}, {{4}}).find("an operand of 2 dims is written with 3") != std::string::npos);
  CHECK(error_of("... a ... -> a", {{4, 5}}, {{4}}).find("'...' twice in one operand") != std::string::npos);
}

TEST_CASE("a window says which indices are read through which factor, in numbers") {
  const auto map = [](const std::string& clause) {
    const auto s = parse("h -> o    h: window(" + clause + ")", {{9}}, {{4}});
    CHECK(factor(s[0], "h").kind == FactorKind::window);
    CHECK(s[0].factors[static_cast<std::size_t>(factor(s[0], "h").of)].name == "o");
    CHECK(factor(s[0], "o").kind == FactorKind::pass);
    CHECK(factor(s[0], "h").size == 9);
    CHECK(factor(s[0], "o").size == 4);
    return factor(s[0], "h").map;
  };
  using Map = dtensor::redistribute::WindowMap;
  CHECK(map("o") == Map{1, 1, 0, 0, false});
  CHECK(map("2 o + 1") == Map{2, 1, 1, 1, false});
  CHECK(map("2 o - 1 .. 1") == Map{2, 1, -1, 1, false});
  CHECK(map("-o + 8") == Map{-1, 1, 8, 8, false});
  CHECK(map("7 o + 0 .. 2 / 3") == Map{7, 3, 0, 2, false});
  CHECK(map("o - 5 .. -3, wrap") == Map{1, 1, -5, -3, true});
}

TEST_CASE("a slip in a window names its column") {
  const auto error = [](const std::string& clause) { return error_of("h -> o    h: " + clause, {{9}}, {{4}}); };
  CHECK(error("window(2 + 1)").find("expected a factor name (column 23 of") != std::string::npos);
  CHECK(error("window(o + x)").find("expected a number (column 25 of") != std::string::npos);
  CHECK(error("window(o / 0)").find("expected a positive number (column 25 of") != std::string::npos);
  CHECK(error("window(o, fold)").find("expected 'wrap' (column 24 of") != std::string::npos);
  CHECK(error("window(o").find("expected ')' (column 22 of") != std::string::npos);
  CHECK(error("window(q)").find("'h' is read through 'q', which is no other factor (") != std::string::npos);
  CHECK(error("window(h)").find("'h' is read through 'h', which is no other factor (") != std::string::npos);
  CHECK(error_of("(h w) -> o    h: window(o)", {{9}}, {{4}}).find("'h' is read through a window, so it must be a dimension of operands alone") !=
        std::string::npos);
  CHECK(error_of("h -> h o    h: window(o)", {{9}}, {{9, 4}}).find("must be a dimension of operands alone") != std::string::npos);
}
