// SPDX-License-Identifier: Apache-2.0
// Layouts that another program computed: every row of layouts.csv and shard_orders.csv. The folder comes from DTENSOR_GOLDEN when set.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "dtensor/error.h"
#include "mesh/mesh_data.h"
#include "placements/layout.h"

using namespace dtensor;
using namespace dtensor::placements;

namespace {

using Row = std::map<std::string, std::string>;

std::filesystem::path folder() {
  const char* given = std::getenv("DTENSOR_GOLDEN");
  if (given != nullptr && *given != '\0') return std::filesystem::path(given) / "layouts";
  return std::filesystem::path(DTENSOR_SOURCE_DIR) / "tests/golden/layouts";
}

// RFC 4180: fields in quotes may hold commas, line ends and doubled quotes.
std::vector<std::vector<std::string>> read_records(std::istream& in) {
  std::vector<std::vector<std::string>> records;
  std::vector<std::string> record{""};
  bool quoted = false, any = false;
  for (char c = 0; in.get(c);) {
    any = true;
    if (quoted) {
      if (c != '"') record.back() += c;
      else if (in.peek() == '"') record.back() += static_cast<char>(in.get());
      else quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      record.emplace_back();
    } else if (c == '\n') {
      records.push_back(std::move(record));
      record = {""};
      any = false;
    } else if (c != '\r') {
      record.back() += c;
    }
  }
  if (any) records.push_back(std::move(record));
  return records;
}

std::vector<Row> read_rows(const std::string& name) {
  std::ifstream file(folder() / name);
  REQUIRE_MESSAGE(file.good(), "cannot read ", (folder() / name).string());
  const auto records = read_records(file);
  REQUIRE(records.size() > 1);
  std::vector<Row> rows;
  for (std::size_t i = 1; i < records.size(); ++i) {
    REQUIRE(records[i].size() == records[0].size());
    Row& row = rows.emplace_back();
    for (std::size_t k = 0; k < records[0].size(); ++k) row[records[0][k]] = records[i][k];
  }
  return rows;
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, at);) parts.push_back(part);
  return parts;
}

Shape numbers(const std::string& text) {
  Shape values;
  for (const std::string& part : split(text, ' ')) values.push_back(std::stoll(part));
  return values;
}

std::string text_of(const Shape& values) {
  std::string text;
  for (std::int64_t value : values) text += (text.empty() ? "" : " ") + std::to_string(value);
  return text;
}

DeviceMesh mesh_of(const std::string& text) {
  std::vector<MeshAxis> axes;
  for (const std::string& size : split(text, 'x')) axes.push_back({"", std::stoi(size)});
  return mesh::make_mesh(1, 1 << 20, axes, {});
}

std::vector<Placement> placements_of(const std::string& text) {
  std::vector<Placement> list;
  for (const std::string& part : split(text, ';')) list.push_back(Placements::parse(part)["0"]);
  return list;
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
