// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "dtensor/error.h"
#include "placements/enumerate.h"

using namespace dtensor;
using namespace dtensor::placements;
using namespace dtensor::testing;

namespace {

template <class F>
std::string error_of(F&& call) {
  try {
    call();
  } catch (const InvalidArgument& error) { return error.what(); }
  return "no error";
}

std::string list_error(std::string_view text) {
  return error_of([&] { Placements::parse(text); });
}
std::string tensor_error(std::string_view text) {
  return error_of([&] { parse_described(text); });
}

}  // namespace

TEST_CASE("each placement prints as the notation says") {
  CHECK(to_string(Placement(Shard(1))) == "S(1)");
  CHECK(to_string(Placement(StridedShard(0, 2))) == "SS(0, 2)");
  CHECK(to_string(Placement(RaggedShard{0, {4, 2}})) == "Ragged(0, 4 2)");
  CHECK(to_string(Placement(Replicate())) == "R");
  CHECK(to_string(Placement(Partial(ReduceOp::product))) == "P(product)");
  CHECK(to_string(Placements{Shard(0), Replicate()}) == "{0: S(0), 1: R}");
  CHECK(to_string(Placements{{"dp", Shard(0)}, {"tp", Partial()}}) == "{dp: S(0), tp: P(sum)}");
  CHECK(to_string(Placements()) == "{}");
}

TEST_CASE("the notation is read with or without braces, spaces and Replicate axes") {
  const Placements expected{{"dp", Shard(0)}, {"tp", Partial()}};
  CHECK(Placements::parse("{dp: S(0), tp: P(sum)}") == expected);
  CHECK(Placements::parse("dp:S(0),tp:P(sum)") == expected);
  CHECK(Placements::parse("  { dp : S ( 0 ) , tp : P ( sum ) }  ") == expected);
  CHECK(Placements::parse("{}") == Placements());
  CHECK(Placements::parse("") == Placements());
  CHECK(Placements::parse("S(-1), R") == Placements{Shard(-1), Replicate()});
  CHECK(Placements::parse("{dp + tp: Ragged(0, 2 2 2 0)}") == Placements{{"dp+tp", RaggedShard{0, {2, 2, 2, 0}}}});
  CHECK(Placements::parse("{S: S(0), R: R}") == Placements{{"S", Shard(0)}, {"R", Replicate()}});
}

TEST_CASE("a placement is asked for by axis") {
  const Placements named = Placements::parse("{dp+tp: Ragged(0, 2 2 2 0), pp: P(max)}");
  CHECK(named["tp"] == Placement(RaggedShard{0, {2, 2, 2, 0}}));
  CHECK(named["dp+tp"] == named["dp"]);
  CHECK(named["pp"] == Placement(Partial(ReduceOp::max)));
  CHECK(named["ep"].is_replicate());
  const Placements positional{Shard(0), Partial()};
  CHECK(positional["1"].is_partial());
  CHECK(error_of([&] { positional["dp"]; }) == "placements: axis 'dp' of a list by position ({0: S(0), 1: P(sum)}); ask by the axis' position");
}

TEST_CASE("errors name the column of the first character that does not fit") {
  const std::string end = "; write such as {dp: S(0), tp: P(sum)}";
  CHECK(list_error("{dp: S(0), tp: X(1)}") ==
        "placements: expected a placement: S(0), SS(0, 2), Ragged(0, 4 2), R or P(sum) at column 16 (found 'X(1)}' in '{dp: S(0), tp: X(1)}')" + end);
  CHECK(list_error("{dp: S(0)") == "placements: expected ',' or '}' at column 10 (found the end in '{dp: S(0)')" + end);
  CHECK(list_error("{dp S(0)}") == "placements: expected ':' and a placement at column 5 (found 'S(0)}' in '{dp S(0)}')" + end);
  CHECK(list_error("dp: S(0),") == "placements: expected an axis name at column 10 (found the end in 'dp: S(0),')" + end);
  CHECK(list_error("{dp: S()}") == "placements: expected a dim at column 8 (found ')}' in '{dp: S()}')" + end);
  CHECK(list_error("{dp: S(9)}") == "placements: expected a dim from -8 to 7 at column 8 (found '9)}' in '{dp: S(9)}')" + end);
  CHECK(list_error("{dp: SS(0)}") == "placements: expected ',' and the split factor at column 10 (found ')}' in '{dp: SS(0)}')" + end);
  CHECK(list_error("{dp: Ragged(0, )}") == "placements: expected a size at column 16 (found ')}' in '{dp: Ragged(0, )}')" + end);
  CHECK(list_error("{dp: Ragged(0, 2 -1)}") ==
        "placements: expected a size of 0 or more at column 18 (found '-1)}' in '{dp: Ragged(0, 2 -1)}')" + end);
  CHECK(list_error("{dp: P(mean)}") == "placements: expected sum, avg, min, max or product at column 8 (found 'mean)}' in '{dp: P(mean)}')" + end);
  CHECK(list_error("{dp: R} x") == "placements: expected the end at column 9 (found 'x' in '{dp: R} x')" + end);
  CHECK(list_error("{R, dp: R}") ==
        "placements: expected a placement without an axis name, as before at column 5 (found 'dp: R}' in '{R, dp: R}')" + end);
  const std::string tensor = "; write such as f32[8, 16]{dp: S(0), tp: P(sum)}";
  CHECK(tensor_error("q8[7]") == "notation: expected a dtype such as f32 at column 1 (found 'q8[7]' in 'q8[7]')" + tensor);
  CHECK(tensor_error("f32[7, -1]") == "notation: expected a size of 0 or more at column 8 (found '-1]' in 'f32[7, -1]')" + tensor);
  CHECK(tensor_error("f32[7 8]") == "notation: expected ',' or ']' at column 7 (found '8]' in 'f32[7 8]')" + tensor);
  CHECK(tensor_error("f32[7]{dp: S(0)} and") == "notation: expected the end at column 18 (found 'and' in 'f32[7]{dp: S(0)} and')" + tensor);
}

TEST_CASE("no text of the notation's characters brings the parser down") {
  const std::string letters = "{}(),:+S0RP d";
  std::uint64_t state = 1;
  int read = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (int k = 0; k < 8; ++k) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      text += letters[(state >> 33) % letters.size()];
    }
    if (list_error(text) == "no error") ++read;
  }
  CHECK(read > 0);
  CHECK(read < 20000);
}

TEST_CASE("every layout is read back from its text, with dtype and shape") {
  int count = 0;
  for (const auto& sizes : std::vector<std::vector<int>>{{1}, {3}, {2, 3}, {2, 2, 2}}) {
    const DeviceMesh mesh = mesh_of(sizes);
    for (const Shape& shape : {Shape{6}, Shape{0, 5}, Shape{8, 5}})
      for_each_placement(sizes, shape, [&](const std::vector<AxisPlacement>& entries) {
        const LayoutRef layout = make_layout(mesh, shape, Dtype::bf16, Placements(entries), "test");
        const std::string text = to_string(Dtype::bf16, shape, *layout, mesh.names());
        const Described read = parse_described(text);
        if (read.dtype != Dtype::bf16 || !(read.shape == shape) || make_layout(mesh, read.shape, read.dtype, read.placements, "test") != layout)
          FAIL_CHECK(text);
        if (!(Placements::parse(to_string(Placements(entries))) == Placements(entries))) FAIL_CHECK(to_string(Placements(entries)));
        ++count;
      });
  }
  CHECK(count > 10000);
}
