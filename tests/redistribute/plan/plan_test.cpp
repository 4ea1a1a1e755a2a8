// SPDX-License-Identifier: Apache-2.0
#include "dtensor/plan.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "dtensor/error.h"
#include "mesh/mesh_data.h"

using namespace dtensor;

namespace {

DeviceMesh mesh_of(std::vector<MeshAxis> axes) {
  int n = 1;
  for (const MeshAxis& a : axes) n *= a.size;
  return mesh::make_mesh(1, n, axes, {});
}

}  // namespace

TEST_CASE("a plan prints its ends, its moves and its totals") {
  const DeviceMesh mesh = mesh_of({{"dp", 2}, {"tp", 2}});
  const Plan plan = make_plan(mesh, {2048, 2048}, Dtype::f32, {Shard(0), Shard(1)}, {Shard(0), Replicate()});
  CHECK_EQ(to_string(plan),
           "f32[2048, 2048]{dp: S(0), tp: S(1)} -> {dp: S(0), tp: R}\n"
           "  S(1) -> R on tp: all_gather[tp] 4 MiB\n"
           "  1 launch, received 4 MiB on the worst rank, 16 MiB on all (lower bound 4 MiB, 16 MiB), peak 12 MiB, predicted 841 us");
  const Plan both = make_plan(mesh, {8}, Dtype::f32, {Partial(), Partial(ReduceOp::avg)}, {});
  REQUIRE_EQ(both.moves().size(), 1);
  CHECK_EQ(both.moves()[0].change, "(P(sum), P(avg)) -> (R, R) on dp+tp");
  CHECK_EQ(both.moves()[0].kind, "all_reduce");
  CHECK(both.moves()[0].axes == std::vector<std::string>{"dp", "tp"});
}

TEST_CASE("a plan without moves says so, and one that only relabels prints both layouts") {
  const DeviceMesh mesh = mesh_of({{"dp", 2}, {"tp", 2}});
  CHECK_EQ(to_string(make_plan(mesh, {8}, Dtype::f32, {Shard(0), Replicate()}, {{"dp", Shard(0)}})),
           "f32[8]{dp: S(0), tp: R} -> {dp: S(0), tp: R}\n  nothing to do");
  const Plan relabel = make_plan(mesh, {8}, Dtype::f32, {StridedShard(0, 2), Shard(0)}, {{"tp", Shard(0)}, {"dp", Shard(0)}});
  REQUIRE_EQ(relabel.moves().size(), 1);
  CHECK_EQ(relabel.moves()[0].change, "{dp: SS(0, 2), tp: S(0)} -> {tp: S(0), dp: S(0)}");
  CHECK_EQ(relabel.launches(), 0);
}

TEST_CASE("the json of a plan has its keys and agrees with the plan") {
  const DeviceMesh mesh = mesh_of({{"dp", 2}, {"tp", 3}});
  const Plan plan = make_plan(mesh, {7, 5}, Dtype::f64, {Partial(), Shard(0)}, {Shard(1), Replicate()});
  const auto json = nlohmann::json::parse(plan.json());
  REQUIRE_EQ(json["moves"].size(), plan.moves().size());
  for (const char* key : {"kind", "axes", "bytes_received", "launches", "predicted_us"}) CHECK(json["moves"][0].contains(key));
  CHECK_EQ(json["bytes_received"]["max"], plan.bytes_received().max);
  CHECK_EQ(json["bytes_received"]["total"], plan.bytes_received().total);
  CHECK_EQ(json["lower_bound"]["max"], plan.lower_bound().max);
  CHECK_EQ(json["predicted_us"], plan.predicted_us());
  CHECK_EQ(json["peak_bytes"], plan.peak_bytes());
}

TEST_CASE("the drawing has a cell per rank and layout and a line per move") {
  const DeviceMesh mesh = mesh_of({{"tp", 4}});
  const Plan plan = make_plan(mesh, {8, 8}, Dtype::f32, {Shard(0)}, {Shard(1)});
  const std::string svg = plan.svg();
  std::size_t cells = 0;
  for (std::size_t at = svg.find("<rect"); at != std::string::npos; at = svg.find("<rect", at + 1)) ++cells;
  CHECK_EQ(cells, 1 + 2 * 4);
  CHECK(svg.find("all_to_all: S(0) -&gt; S(1) on tp") != std::string::npos);
  CHECK(svg.find("2:4, 0:8") != std::string::npos);
}

TEST_CASE("a limit that cannot be met is an error that names the least") {
  const DeviceMesh mesh = mesh_of({{"tp", 4}});
  CHECK_THROWS_WITH_AS(make_plan(mesh, {64}, Dtype::f32, {Shard(0)}, {}, 100),
                       "redistribute: the memory limit cannot be met (100 bytes, the least peak is 320); raise it to 320", InvalidArgument);
  CHECK_EQ(make_plan(mesh, {64}, Dtype::f32, {Shard(0)}, {}, 320).peak_bytes(), 320);
}
