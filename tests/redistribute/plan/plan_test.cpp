// SPDX-License-Identifier: Apache-2.0
#include "dtensor/plan.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "dtensor/error.h"
#include "mesh/mesh_data.h"
#include "redistribute/plan/plan_data.h"

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
           "  1 launch, received 4 MiB on the worst rank, 16 MiB on all (lower bound 4 MiB, 16 MiB; met), peak 12 MiB, predicted 841 us");
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

TEST_CASE("a plan in chunks says so in every form") {
  const auto plan_within = [](std::int64_t limit) {
    return make_plan(mesh_of({{"tp", 4}}), {64, 64}, Dtype::f32, {Partial(ReduceOp::max)}, {Partial(ReduceOp::sum)}, limit);
  };
  const Plan plan = plan_within(34000), free = plan_within(0);
  CHECK_EQ(plan.chunks(), 32);
  CHECK_EQ(plan.launches(), 32 * free.launches());
  CHECK(to_string(plan).find("  in 32 chunks of dim 0, 2 of its indices on a rank at a time:\n") != std::string::npos);
  CHECK(plan.json().find("\"chunks\": 32") != std::string::npos);
  CHECK(plan.svg().find("in 32 chunks of dim 0") != std::string::npos);
  CHECK_EQ(free.chunks(), 1);
  CHECK(to_string(free).find("chunks") == std::string::npos);
  CHECK(free.json().find("\"chunks\": 1") != std::string::npos);
}

TEST_CASE("a plan of a search that stopped early says what a cheaper one may save, and no other does") {
  const DeviceMesh mesh = mesh_of({{"tp", 4}});
  const Plan exact = make_plan(mesh, {5}, Dtype::f32, {Partial()}, {Replicate()});
  CHECK_EQ(exact.gap_us(), 0);
  CHECK(to_string(exact).find("above the cheapest") == std::string::npos);
  dtensor::redistribute::PlanData data;
  data.mesh = mesh;
  data.axis_names = {"tp"};
  data.shape = {5};
  dtensor::placements::Layout partial, whole;
  partial.mesh_sizes = whole.mesh_sizes = {4};
  partial.dims.resize(1);
  whole.dims.resize(1);
  partial.partial = {dtensor::ReduceOp::sum};
  whole.partial = {std::nullopt};
  data.from = dtensor::placements::intern(std::move(partial));
  data.to = dtensor::placements::intern(std::move(whole));
  dtensor::redistribute::Route route = *dtensor::redistribute::find_route(data.from, data.to, data.shape, data.dtype);
  route.gap_nanoseconds = 1250;
  data.route = std::make_shared<const dtensor::redistribute::Route>(std::move(route));
  const Plan stopped(std::make_shared<const dtensor::redistribute::PlanData>(std::move(data)));
  CHECK_EQ(stopped.gap_us(), 1.25);
  CHECK(to_string(stopped) == to_string(exact) + " (at most 1.25 us above the cheapest)");
  CHECK_EQ(nlohmann::json::parse(stopped.json())["gap_us"], 1.25);
}

TEST_CASE("a plan that receives more than it must prints by how much") {
  // 5 elements make chunks of 2, 2, 1 and 0: the first rank reduces more than a fourth.
  const Plan plan = make_plan(mesh_of({{"tp", 4}}), {5}, Dtype::f32, {Partial()}, {Replicate()});
  const std::int64_t worst = plan.bytes_received().max - plan.lower_bound().max, all = plan.bytes_received().total - plan.lower_bound().total;
  REQUIRE_GT(worst, 0);
  CHECK(to_string(plan).find("; gap " + std::to_string(worst) + " B, " + std::to_string(all) + " B)") != std::string::npos);
}

namespace {

struct Box {
  double x = 0, y = 0, width = 0, height = 0;
};
double number(const std::string& tag, const std::string& key) {
  const std::size_t at = tag.find(" " + key + "=\"");
  return at == std::string::npos ? 0 : std::stod(tag.substr(at + key.size() + 3));
}
// All elements `<name ...` of the drawing; of texts the box that their letters fill.
std::vector<Box> boxes_of(const std::string& svg, const std::string& name) {
  std::vector<Box> result;
  for (std::size_t at = svg.find("<" + name + " "); at != std::string::npos; at = svg.find("<" + name + " ", at + 1)) {
    const std::size_t end = svg.find('>', at);
    const std::string tag = svg.substr(at, end - at);
    Box box{number(tag, "x"), number(tag, "y"), number(tag, "width"), number(tag, "height")};
    if (name == "text") {
      std::string words = svg.substr(end + 1, svg.find("</text>", end) - end - 1);
      for (const char* entity : {"&lt;", "&gt;", "&amp;"})
        for (std::size_t e = words.find(entity); e != std::string::npos; e = words.find(entity)) words.replace(e, std::string(entity).size(), "x");
      box = {box.x, box.y - 10, 7.3 * static_cast<double>(words.size()), 12};
    }
    result.push_back(box);
  }
  return result;
}
bool overlap(const Box& a, const Box& b) { return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height; }
bool inside(const Box& a, const Box& b) { return a.x >= b.x && a.y >= b.y && a.x + a.width <= b.x + b.width && a.y + a.height <= b.y + b.height; }

// No text or cell overlaps another, every text lies in a cell or outside of all, and everything is on the page.
void check_drawing(const Plan& plan) {
  const std::string svg = plan.svg();
  std::vector<Box> cells = boxes_of(svg, "rect");
  const std::vector<Box> texts = boxes_of(svg, "text");
  const Box page = cells.front();
  cells.erase(cells.begin());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    CHECK(inside(texts[i], page));
    for (std::size_t j = 0; j < i; ++j) CHECK_FALSE(overlap(texts[i], texts[j]));
    for (const Box& cell : cells) CHECK((inside(texts[i], cell) || !overlap(texts[i], cell)));
  }
  for (std::size_t i = 0; i < cells.size(); ++i) {
    CHECK(inside(cells[i], page));
    for (std::size_t j = 0; j < i; ++j) CHECK_FALSE(overlap(cells[i], cells[j]));
  }
  CHECK_LE(page.width, 1800);
}

}  // namespace

TEST_CASE("the drawing has a cell per rank and layout and a line per move") {
  const DeviceMesh mesh = mesh_of({{"tp", 4}});
  const Plan plan = make_plan(mesh, {8, 8}, Dtype::f32, {Shard(0)}, {Shard(1)});
  const std::string svg = plan.svg();
  CHECK_EQ(boxes_of(svg, "rect").size(), 1 + 2 * 4);
  CHECK(svg.find("all_to_all: S(0) -&gt; S(1) on tp") != std::string::npos);
  CHECK(svg.find(">2:4</text>") != std::string::npos);
  CHECK(svg.find(">0:8</text>") != std::string::npos);
  check_drawing(plan);
}

TEST_CASE("the drawing of a plan to another mesh has both meshes with their ranks, and nothing overlaps") {
  const DeviceMesh all = mesh_of({{"pp", 2}, {"dp", 3}, {"tp", 4}}),
                   last = mesh::make_mesh(1, 24, std::vector<MeshAxis>{{"tp", 3}}, std::vector<int>{23, 5, 1});
  const Plan plan = make_plan(all, {64, 12}, Dtype::f32, {Shard(0), Replicate(), Partial()}, last, {Shard(1)});
  check_drawing(plan);
  std::size_t cells = 24;
  for (const PlanMove& m : plan.moves()) cells += m.kind == "transfer" ? 3 : 24;
  CHECK_EQ(boxes_of(plan.svg(), "rect").size(), 1 + cells);
  check_drawing(make_plan(last, {64, 12}, Dtype::f32, {Shard(1)}, all, {Replicate(), Partial(), Shard(0)}));
}

TEST_CASE("nothing overlaps in the drawings of one to four axes, of few and many ranks, split pieces and empty parts") {
  const auto draw = [](std::vector<MeshAxis> axes, const Shape& shape, Placements from, Placements to) {
    check_drawing(make_plan(mesh_of(std::move(axes)), shape, Dtype::f32, from, to));
  };
  draw({{"tp", 2}}, {}, {Partial()}, {Replicate()});
  draw({{"tp", 8}}, {5}, {Shard(0)}, {Replicate()});
  draw({{"tp", 1024}}, {1 << 20, 3}, {Shard(0)}, {Shard(1)});
  draw({{"tp", 5}}, {37}, {StridedShard(0, 3)}, {Shard(0)});
  draw({{"dp", 2}, {"tp", 3}}, {8, 8}, {Partial(), Shard(0)}, {Shard(1), Replicate()});
  draw({{"data_parallel", 16}, {"tensor_parallel", 16}}, {4096, 4096}, {Shard(0), Shard(1)}, {Shard(1), Shard(0)});
  draw({{"dp", 2}, {"cp", 2}, {"tp", 2}}, {8, 8, 8}, {Shard(0), Shard(1), Partial()}, {Shard(1), Replicate(), Shard(2)});
  draw({{"dp", 32}, {"cp", 64}, {"tp", 8}}, {4096, 8192, 64, 128}, {Shard(0), Shard(1), Partial()}, {Shard(1), Replicate(), Shard(2)});
  draw({{"pipeline", 4}, {"replicas", 4}, {"context", 4}, {"tensors", 4}}, {64, 64}, {Replicate(), Shard(0), Shard(1), Partial()}, {});
}

TEST_CASE("a limit that cannot be met is an error that names the least") {
  const DeviceMesh mesh = mesh_of({{"tp", 4}});
  CHECK_THROWS_WITH_AS(make_plan(mesh, {64}, Dtype::f32, {Shard(0)}, {}, 100),
                       "redistribute: the memory limit cannot be met (100 bytes, the least peak is 320); raise it to 320", InvalidArgument);
  CHECK_EQ(make_plan(mesh, {64}, Dtype::f32, {Shard(0)}, {}, 320).peak_bytes(), 320);
}
