// SPDX-License-Identifier: Apache-2.0
// Layouts that another program computed: every row of layouts.csv and shard_orders.csv.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "dtensor/error.h"
#include "golden/layout_rows.h"
#include "mesh/mesh_data.h"
#include "placements/layout.h"

using namespace dtensor;
using namespace dtensor::placements;
using golden::numbers;
using golden::placements_of;
using golden::read_rows;
using golden::Row;
using golden::split;
using golden::text_of;

namespace {

DeviceMesh mesh_of(const std::string& text) {
  std::vector<MeshAxis> axes;
  for (const std::string& size : split(text, 'x')) axes.push_back({"", std::stoi(size)});
  return mesh::make_mesh(1, 1 << 20, axes, {});
}

LayoutRef layout_of(const DeviceMesh& mesh, const Shape& shape, const std::string& placements) {
  return make_layout(mesh, shape, Dtype::f32, Placements(std::span<const Placement>(placements_of(placements))), "golden");
}

// The list by axis that `order` asks for: "1:2>0" splits dim 1 over axis 2 first, then over axis 0.
LayoutRef layout_of(const DeviceMesh& mesh, const Shape& shape, const std::string& placements, const std::string& order) {
  const std::vector<Placement> positional = placements_of(placements);
  std::vector<AxisPlacement> entries;
  for (const std::string& part : split(order, ';')) {
    const auto colon = part.find(':');
    for (const std::string& axis : split(part.substr(colon + 1), '>')) {
      entries.emplace_back(axis, positional[static_cast<std::size_t>(std::stoi(axis))]);
      REQUIRE(entries.back().placement == Placement(Shard(std::stoi(part.substr(0, colon)))));
    }
  }
  return make_layout(mesh, shape, Dtype::f32, Placements(std::move(entries)), "golden");
}

// "2=0 1 2 3 7 8 9" for every dimension that the placements split with a StridedShard, joined by bars.
std::string indices_text(const Layout& layout, const Shape& shape, const Shape& at, const std::string& placements) {
  std::vector<bool> strided(shape.size(), false);
  for (const Placement& placement : placements_of(placements))
    if (const auto* split_by = placement.as<StridedShard>()) strided[static_cast<std::size_t>(split_by->dim)] = true;
  std::string text;
  for (int dim = 0; dim < shape.ndim(); ++dim) {
    if (!strided[static_cast<std::size_t>(dim)]) continue;
    std::string list;
    for (const Run& run : owned_runs(layout, dim, shape[dim], at))
      for (std::int64_t i = run.begin; i < run.begin + run.length; ++i) list += (list.empty() ? "" : " ") + std::to_string(i);
    text += (text.empty() ? "" : "|") + std::to_string(dim) + "=" + list;
  }
  return text;
}

void check_row(const Row& row, const Layout& layout, const Shape& shape) {
  const Shape at = numbers(row.at("rank_coordinate"));
  const std::string local = text_of(local_shape(layout, shape, at)), offset = text_of(local_offset(layout, shape, at));
  if (local != row.at("local_shape") || offset != row.at("offset"))
    FAIL_CHECK("shape ", row.at("shape"), " on ", row.at("mesh"), " as ", row.at("placements"), " at ", row.at("rank_coordinate"), ": local shape ",
               local, " offset ", offset, ", expected ", row.at("local_shape"), " offset ", row.at("offset"));
}

}  // namespace

TEST_CASE("local shapes, offsets and indices are those of the reference rows") {
  for (const Row& row : read_rows("layouts.csv")) {
    const DeviceMesh mesh = mesh_of(row.at("mesh"));
    const Shape shape = numbers(row.at("shape"));
    const LayoutRef layout = layout_of(mesh, shape, row.at("placements"));
    check_row(row, *layout, shape);
    const std::string indices = indices_text(*layout, shape, numbers(row.at("rank_coordinate")), row.at("placements"));
    if (indices != row.at("indices"))
      FAIL_CHECK("shape ", row.at("shape"), " as ", row.at("placements"), ": indices ", indices, ", expected ", row.at("indices"));
  }
}

TEST_CASE("explicit orders of splits are those of the reference rows, and agree with StridedShard where they should") {
  int agree = 0;
  const auto rows = read_rows("shard_orders.csv");
  for (const Row& row : rows) {
    const DeviceMesh mesh = mesh_of(row.at("mesh"));
    const Shape shape = numbers(row.at("shape"));
    const LayoutRef layout = layout_of(mesh, shape, row.at("placements"), row.at("order"));
    check_row(row, *layout, shape);
    const LayoutRef strided = layout_of(mesh, shape, row.at("strided_placements"));
    const bool agrees = equivalent(*layout, *strided, shape);
    agree += agrees ? 1 : 0;
    if (agrees != (row.at("strided_agrees") == "yes"))
      FAIL_CHECK("shape ", row.at("shape"), " on ", row.at("mesh"), " in order ", row.at("order"), " and ", row.at("strided_placements"),
                 ": agree is ", agrees);
  }
  CHECK(agree > 0);
  CHECK(agree < static_cast<int>(rows.size()));
}
