// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "dtensor/error.h"
#include "placements/enumerate.h"

using namespace dtensor;
using namespace dtensor::placements;
using namespace dtensor::testing;

namespace {

std::string error_of(const Placements& placements, const Shape& shape = {8, 6}, Dtype dtype = Dtype::f32) {
  try {
    make_layout(mesh_of({2, 2}), shape, dtype, placements, "randn");
  } catch (const InvalidArgument& error) { return error.what(); }
  return "no error";
}

std::string notation_of(const Placements& placements, const Shape& shape = {8, 6}) {
  const DeviceMesh mesh = mesh_of({2, 2});
  return to_string(*make_layout(mesh, shape, Dtype::f32, placements, "test"), mesh.names());
}

}  // namespace

TEST_CASE("a positional list applies in mesh order, a list by name in written order, and unnamed axes are Replicate") {
  CHECK(notation_of({Shard(0), Replicate()}) == "{dp: S(0), tp: R}");
  CHECK(notation_of({{"tp", Shard(-1)}}) == "{dp: R, tp: S(1)}");
  CHECK(notation_of({{"1", Shard(-1)}}) == "{dp: R, tp: S(1)}");
  CHECK(notation_of({}) == "{dp: R, tp: R}");
  CHECK(notation_of({Shard(0), Shard(0)}) == "{dp: S(0), tp: S(0)}");
  CHECK(notation_of({{"tp", Shard(0)}, {"dp", Shard(0)}}) == "{tp: S(0), dp: S(0)}");
  CHECK(notation_of({{"tp", Shard(0)}, {"dp", Shard(1)}}) == "{dp: S(1), tp: S(0)}");
  CHECK(notation_of({{"dp+tp", RaggedShard{0, {2, 2, 4, 0}}}}) == "{dp+tp: Ragged(0, 2 2 4 0)}");
  CHECK(notation_of({StridedShard(0, 1), Partial()}) == "{dp: S(0), tp: P(sum)}");
}

TEST_CASE("axes are written in the first order that every dimension allows") {
  const DeviceMesh mesh = mesh_of({2, 2, 2});
  const auto text = [&](const Placements& placements) { return to_string(*make_layout(mesh, {8, 8}, Dtype::f32, placements, "test"), mesh.names()); };
  CHECK(text({{"pp", Shard(0)}, {"dp", Shard(0)}, {"tp", Shard(1)}}) == "{tp: S(1), pp: S(0), dp: S(0)}");
  CHECK(text({{"pp", Shard(0)}, {"tp", Shard(0)}, {"dp", Partial()}}) == "{dp: P(sum), pp: S(0), tp: S(0)}");
  CHECK(text({{"tp", Shard(0)}, {"dp", Shard(0)}, {"pp", Shard(0)}}) == "{tp: S(0), dp: S(0), pp: S(0)}");
}

TEST_CASE("a list that means no layout is refused with the values and the way out") {
  CHECK(error_of({Shard(0)}) == "randn: 1 placements for 2 axes ({0: S(0)} on Mesh(dp=2, tp=2)); give one per mesh axis, or name the axes");
  CHECK(error_of({{"pp", Shard(0)}}) == "randn: unknown axis 'pp' of Mesh(dp=2, tp=2); its axes are dp, tp");
  CHECK(error_of({{"dp", Shard(0)}, {"dp", Shard(1)}}) == "randn: axis 'dp' of Mesh(dp=2, tp=2) is placed twice; give one placement per axis");
  CHECK(error_of({{"dp+tp", Shard(0)}}) == "randn: S(0) over the joint axes 'dp+tp'; only Ragged takes several axes, name each on its own");
  CHECK(error_of({{"dp", Shard(2)}}) == "randn: S(2) names dim 2 of a tensor with 2 dims ([8, 6]); use a dim of the tensor");
  CHECK(error_of({{"dp", Shard(-3)}}) == "randn: S(-3) names dim -3 of a tensor with 2 dims ([8, 6]); use a dim of the tensor");
  CHECK(error_of({{"dp", Shard(0)}}, {}) == "randn: S(0) names dim 0 of a tensor with 0 dims ([]); use a dim of the tensor");
  CHECK(error_of({{"dp", StridedShard(0, 0)}}) == "randn: split factor 0 of SS(0, 0) is below 1; use 1 or more");
  CHECK(error_of({{"dp", RaggedShard{0, {8}}}}) == "randn: Ragged(0, 8) has 1 sizes for 2 ranks of Mesh(dp=2, tp=2); give one size per rank");
  CHECK(error_of({{"dp", RaggedShard{0, {4, 5}}}}) == "randn: sizes of Ragged(0, 4 5) add up to 9, the dim has 8 ([8, 6]); make the sum equal");
  CHECK(error_of({{"dp", RaggedShard{0, {9, -1}}}}) == "randn: Ragged(0, 9 -1) has the size -1; sizes are 0 or more");
  CHECK(error_of({{"tp", Shard(0)}, {"dp", RaggedShard{0, {4, 4}}}}) ==
        "randn: Ragged(0, 4 4) is not the first split of its dim (axis 'tp' splits it before); put it first");
  CHECK(error_of({Partial(ReduceOp::sum), Partial(ReduceOp::max)}) ==
        "randn: P(sum) on axis 'dp' and P(max) on axis 'tp' do not commute; use one kind, or sum with avg");
  CHECK(error_of({Partial(ReduceOp::band), Replicate()}) == "randn: P(band) on axis 'dp' is no placement; use sum, avg, min, max or product");
  CHECK(error_of({Partial(ReduceOp::avg), Replicate()}, {8, 6}, Dtype::i64) ==
        "randn: P(avg) of i64 on axis 'dp'; avg needs a floating dtype, cast first");
  CHECK(error_of({Replicate(), Partial(ReduceOp::product)}, {8, 6}, Dtype::boolean) ==
        "randn: P(product) of bool on axis 'tp'; use P(max) for or, P(min) for and");
}

TEST_CASE("kinds of Partial that commute and fit the dtype are accepted, all others refused") {
  using enum ReduceOp;
  for (ReduceOp a : {sum, avg, min, max, product})
    for (ReduceOp b : {sum, avg, min, max, product}) {
      const bool commute = a == b || (a == sum && b == avg) || (a == avg && b == sum);
      CHECK((error_of({Partial(a), Partial(b)}) == "no error") == commute);
    }
  CHECK(error_of({Partial(max), Partial(max)}, {8, 6}, Dtype::boolean) == "no error");
  CHECK(error_of({Partial(sum), Partial(sum)}, {8, 6}, Dtype::u8) == "no error");
}

TEST_CASE("placements of every layout make that layout again, by position only where mesh order will do") {
  for (const auto& sizes : std::vector<std::vector<int>>{{3}, {2, 3}, {2, 2, 2}}) {
    const DeviceMesh mesh = mesh_of(sizes);
    const Shape shape{8, 5};
    for_each_placement(sizes, shape, [&](const std::vector<AxisPlacement>& entries) {
      const LayoutRef layout = make_layout(mesh, shape, Dtype::f32, Placements(entries), "test");
      const Placements back = to_placements(*layout, mesh.names());
      const LayoutRef again = make_layout(mesh, shape, Dtype::f32, back, "test");
      std::vector<Placement> by_axis(sizes.size());
      bool joint = false;
      for (const AxisPlacement& entry : entries) {
        joint = joint || entry.axis.find('+') != std::string::npos;
        if (!joint) by_axis[static_cast<std::size_t>(mesh.axis(entry.axis))] = entry.placement;
      }
      bool legal_by_position = !joint;
      std::set<int> seen;
      for (const Placement& p : by_axis)
        if (dim_of(p) >= 0 && !seen.insert(dim_of(p)).second && p.as<RaggedShard>() != nullptr) legal_by_position = false;
      const bool positional =
          legal_by_position && make_layout(mesh, shape, Dtype::f32, Placements(std::span<const Placement>(by_axis)), "test") == layout;
      if (again != layout || back.named() == positional) FAIL_CHECK(to_string(*layout, mesh.names()), " became ", to_string(back));
    });
  }
}
