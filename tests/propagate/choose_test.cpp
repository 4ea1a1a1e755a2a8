// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>

#include "dtensor/error.h"
#include "mesh/mesh_data.h"
#include "propagate/choose.h"

using namespace dtensor;
using namespace dtensor::propagate;

namespace {

// Operands as "f32[4, 6]{tp: S(0)}" on a mesh; the choice as the layouts of operands and results.
class Call {
 public:
  Call(std::vector<MeshAxis> axes, std::vector<std::string> operands) : mesh_(mesh::make_mesh(1, 64, axes, {})) {
    for (const std::string& text : operands) {
      const auto d = placements::parse_described(text);
      operands_.push_back({d.shape, d.dtype, placements::make_layout(mesh_, d.shape, d.dtype, d.placements, "test"), false});
      shapes_.push_back(d.shape);
    }
  }
  Call& fixed(std::size_t i) {
    operands_[i].fixed = true;
    return *this;
  }
  Choice run(std::string_view rule, const Shape& result) const {
    const std::vector<Shape> results{result};
    return choose("op", parse(rule, results), operands_, {results}, mesh_.sizes());
  }
  std::vector<Choice> all(std::string_view rule, const Shape& result) const {
    const std::vector<Shape> results{result};
    return candidates("op", parse(rule, results), operands_, {results}, mesh_.sizes());
  }
  std::string text(const placements::LayoutRef& layout) const { return placements::to_string(*layout, mesh_.names()); }
  /// "{tp: S(0)}": the result.
  std::string result(std::string_view rule, const Shape& shape) const { return text(run(rule, shape).results[0]); }
  std::string operand(std::string_view rule, const Shape& shape, std::size_t i) const { return text(run(rule, shape).operands[i]); }

 private:
  std::vector<Strategy> parse(std::string_view rule, const std::vector<Shape>& results) const {
    return parse_rule("op", rule, shapes_, std::vector<bool>(shapes_.size(), true), results);
  }
  DeviceMesh mesh_;
  std::vector<Operand> operands_;
  std::vector<Shape> shapes_;
};

constexpr std::string_view kMatmul = "m k, k n -> m n    k: reduce(sum); bilinear";
constexpr std::string_view kLinear = "b k, n k, n -> b n    k: reduce(sum, addend 3); bilinear 1 2";
constexpr std::string_view kAdd = "..., ... -> ...    linear";
constexpr std::string_view kMul = "..., ... -> ...    bilinear";
constexpr std::string_view kRelu = "... -> ...    monotone";
constexpr std::string_view kSum = "m k -> m    k: reduce(sum); linear";

}  // namespace

TEST_CASE("matmul keeps rows, columns and contraction split without a move") {
  const Call rows({{"tp", 2}}, {"f32[4, 6]{tp: S(0)}", "f32[6, 8]"});
  CHECK(rows.result(kMatmul, {4, 8}) == "{tp: S(0)}");
  CHECK(rows.run(kMatmul, {4, 8}).nanoseconds == 0);
  CHECK(Call({{"tp", 2}}, {"f32[4, 6]", "f32[6, 8]{tp: S(1)}"}).result(kMatmul, {4, 8}) == "{tp: S(1)}");
  const Call inner({{"tp", 2}}, {"f32[4, 6]{tp: S(1)}", "f32[6, 8]{tp: S(0)}"});
  CHECK(inner.result(kMatmul, {4, 8}) == "{tp: P(sum)}");
  CHECK(inner.run(kMatmul, {4, 8}).nanoseconds == 0);
}

TEST_CASE("matmul on two axes splits a factor per axis") {
  CHECK(Call({{"dp", 2}, {"tp", 2}}, {"f32[4, 6]{dp: S(0)}", "f32[6, 8]{tp: S(1)}"}).result(kMatmul, {4, 8}) == "{dp: S(0), tp: S(1)}");
  CHECK(Call({{"dp", 2}, {"tp", 2}}, {"f32[4, 6]{dp: S(0), tp: S(1)}", "f32[6, 8]{tp: S(0)}"}).result(kMatmul, {4, 8}) == "{dp: S(0), tp: P(sum)}");
}

TEST_CASE("an order of splits that is not mesh order is carried through") {
  CHECK(Call({{"dp", 2}, {"tp", 2}}, {"f32[8, 6]{tp: S(0), dp: S(0)}", "f32[6, 8]"}).result(kMatmul, {8, 8}) == "{tp: S(0), dp: S(0)}");
}

TEST_CASE("a contraction split in one operand only slices the other, which costs nothing on the wire") {
  const Call c({{"tp", 2}}, {"f32[4, 6]{tp: S(1)}", "f32[6, 8]"});
  CHECK(c.result(kMatmul, {4, 8}) == "{tp: P(sum)}");
  CHECK(c.operand(kMatmul, {4, 8}, 1) == "{tp: S(0)}");
}

TEST_CASE("contractions split differently are brought to one split") {
  const Call c({{"tp", 2}}, {"f32[4, 6]{tp: Ragged(1, 2 4)}", "f32[6, 8]{tp: S(0)}"});
  const Choice choice = c.run(kMatmul, {4, 8});
  CHECK(choice.nanoseconds > 0);
  if (c.text(choice.results[0]) == "{tp: P(sum)}") {
    const std::string a = c.text(choice.operands[0]), b = c.text(choice.operands[1]);
    CHECK(((a == "{tp: S(1)}" && b == "{tp: S(0)}") || (a == "{tp: Ragged(1, 2 4)}" && b == "{tp: Ragged(0, 2 4)}")));
  }
}

TEST_CASE("bilinear: one operand may stay Partial, with the other Replicate") {
  CHECK(Call({{"tp", 2}}, {"f32[4, 6]{tp: P(sum)}", "f32[6, 8]"}).result(kMatmul, {4, 8}) == "{tp: P(sum)}");
  CHECK(Call({{"tp", 2}}, {"f32[4]{tp: P(avg)}", "f32[4]"}).result(kMul, {4}) == "{tp: P(avg)}");
  const Call both({{"tp", 2}}, {"f32[4]{tp: P(sum)}", "f32[4]{tp: P(sum)}"});
  const Choice choice = both.run(kMul, {4});
  const bool one_partial = (both.text(choice.operands[0]) == "{tp: P(sum)}") != (both.text(choice.operands[1]) == "{tp: P(sum)}");
  CHECK((one_partial || both.text(choice.results[0]) != "{tp: P(sum)}"));
}

TEST_CASE("a bias of a row-parallel linear becomes Partial, so it is added once") {
  const Call c({{"tp", 2}}, {"f32[4, 6]{tp: S(1)}", "f32[8, 6]{tp: S(1)}", "f32[8]"});
  CHECK(c.result(kLinear, {4, 8}) == "{tp: P(sum)}");
  CHECK(c.operand(kLinear, {4, 8}, 2) == "{tp: P(sum)}");
}

TEST_CASE("adding Replicate to Partial turns it into Partial rather than reducing") {
  const Call c({{"tp", 2}}, {"f32[4]{tp: P(sum)}", "f32[4]"});
  CHECK(c.result(kAdd, {4}) == "{tp: P(sum)}");
  CHECK(c.operand(kAdd, {4}, 1) == "{tp: P(sum)}");
  CHECK(Call({{"tp", 2}}, {"f32[4]{tp: P(sum)}", "f32[4]{tp: P(sum)}"}).result(kAdd, {4}) == "{tp: P(sum)}");
}

TEST_CASE("sum and avg do not add as they are") {
  const Call c({{"tp", 2}}, {"f32[4]{tp: P(sum)}", "f32[4]{tp: P(avg)}"});
  const Choice choice = c.run(kAdd, {4});
  CHECK(choice.nanoseconds > 0);
  CHECK(c.text(choice.operands[0]) == c.text(choice.operands[1]));
}

TEST_CASE("monotone keeps max and min, and no sum") {
  CHECK(Call({{"tp", 2}}, {"f32[4]{tp: P(max)}"}).result(kRelu, {4}) == "{tp: P(max)}");
  CHECK(Call({{"tp", 2}}, {"f32[4]{tp: P(min)}"}).result(kRelu, {4}) == "{tp: P(min)}");
  CHECK(Call({{"tp", 2}}, {"f32[4]{tp: P(sum)}"}).result(kRelu, {4}) != "{tp: P(sum)}");
}

TEST_CASE("a reduction over a split dimension is Partial, over others it keeps the split") {
  CHECK(Call({{"tp", 3}}, {"f32[4, 6]{tp: S(1)}"}).result(kSum, {4}) == "{tp: P(sum)}");
  CHECK(Call({{"tp", 3}}, {"f32[4, 6]{tp: S(0)}"}).result(kSum, {4}) == "{tp: S(0)}");
  CHECK(Call({{"dp", 2}, {"tp", 2}}, {"f32[4, 6]{dp: P(sum), tp: S(1)}"}).result(kSum, {4}) == "{dp: P(sum), tp: P(sum)}");
}

TEST_CASE("strided and ragged splits are carried to the result") {
  CHECK(Call({{"tp", 2}}, {"f32[8]{tp: SS(0, 2)}"}).result(kRelu, {8}) == "{tp: SS(0, 2)}");
  CHECK(Call({{"tp", 2}}, {"f32[8]{tp: Ragged(0, 1 7)}"}).result(kRelu, {8}) == "{tp: Ragged(0, 1 7)}");
}

TEST_CASE("a view that does not align asks for a move, one that aligns does not") {
  const Call c({{"tp", 2}}, {"f32[6]{tp: S(0)}"});
  CHECK(c.run("(a b) -> a b", {2, 3}).nanoseconds == 0);
  CHECK(c.result("(a b) -> a b", {2, 3}) == "{tp: S(0)}");
  CHECK(c.run("(a b) -> a b", {3, 2}).nanoseconds > 0);
}

TEST_CASE("merging dimensions split over two axes gives the joint ragged split") {
  CHECK(Call({{"dp", 2}, {"tp", 2}}, {"f32[3, 2]{dp: S(0), tp: S(0)}"}).result("a b -> (a b)", {6}) == "{dp+tp: Ragged(0, 2 2 2 0)}");
}

TEST_CASE("an operand written in place keeps its placements, or the call is refused") {
  Call fits({{"tp", 2}}, {"f32[4]{tp: S(0)}", "f32[4]"});
  CHECK(fits.fixed(0).operand("..., ... -> ...", {4}, 0) == "{tp: S(0)}");
  Call partial({{"tp", 2}}, {"f32[4]{tp: P(sum)}", "f32[4]"});
  CHECK_THROWS_WITH_AS(partial.fixed(0).run("..., ... -> ...", {4}),
                       "op: the tensor written in place cannot keep its placements under the rule \"..., ... -> ...\"; redistribute it first, or use "
                       "the form that returns a result",
                       InvalidArgument);
}

TEST_CASE("candidates are sorted by cost, the choice is the first, and both are the same at every call") {
  const Call c({{"dp", 2}, {"tp", 2}}, {"f32[4, 6]{dp: S(0), tp: S(1)}", "f32[6, 8]{dp: S(1), tp: S(0)}"});
  const auto all = c.all(kMatmul, {4, 8});
  REQUIRE(all.size() > 3);
  for (std::size_t i = 1; i < all.size(); ++i) CHECK(all[i - 1].nanoseconds <= all[i].nanoseconds);
  const Choice first = c.run(kMatmul, {4, 8});
  CHECK(first.results[0] == all[0].results[0]);
  for (int i = 0; i < 3; ++i) {
    const Choice again = c.run(kMatmul, {4, 8});
    CHECK(again.results[0] == first.results[0]);
    CHECK(again.operands == first.operands);
    CHECK(again.text == first.text);
  }
}

TEST_CASE("a split of a whole factor asks for the decomposition when every strategy has it whole") {
  const std::vector<int> two{2}, one{1};
  const auto strategies = parse_rule("op", "a d -> a d  d: whole", std::vector<Shape>{{4, 6}}, {true}, std::vector<Shape>{{4, 6}});
  const auto operand = [](std::vector<MeshAxis> axes, const std::string& text) {
    const auto d = placements::parse_described(text);
    const DeviceMesh mesh = mesh::make_mesh(1, 64, axes, {});
    return std::vector<Operand>{{d.shape, d.dtype, placements::make_layout(mesh, d.shape, d.dtype, d.placements, "test"), false}};
  };
  CHECK(splits_whole(strategies, operand({{"tp", 2}}, "f32[4, 6]{tp: S(1)}"), two));
  CHECK_FALSE(splits_whole(strategies, operand({{"tp", 2}}, "f32[4, 6]{tp: S(0)}"), two));
  CHECK_FALSE(splits_whole(strategies, operand({{"tp", 1}}, "f32[4, 6]{tp: S(1)}"), one));
}

TEST_CASE("no operand is brought to parts that its dtype does not have, and no result is left as such") {
  const Shape shape{4, 6};
  const Call flags({{"tp", 2}}, {"f32[4, 6]{tp: P(sum)}", "bool[4, 6]{tp: R}"});
  CHECK(flags.operand(kAdd, shape, 0) != "{tp: P(sum)}");
  CHECK(flags.operand(kAdd, shape, 1) != "{tp: P(sum)}");
  const Call counts({{"tp", 2}}, {"f32[4, 6]{tp: P(avg)}", "i64[4, 6]{tp: R}"});
  CHECK(counts.operand(kAdd, shape, 1) != "{tp: P(avg)}");
  CHECK(Call({{"tp", 2}}, {"f32[4, 6]{tp: P(sum)}", "i64[4, 6]{tp: R}"}).result(kAdd, shape) == "{tp: P(sum)}");
}
