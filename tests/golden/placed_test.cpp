// SPDX-License-Identifier: Apache-2.0
// The golden rows with data really placed: a tensor that holds its own element numbers, and what the rank of each row gets of it.
#include <map>
#include <numeric>

#include "dtensor/dtensor.h"
#include "golden/layout_rows.h"

using namespace dtensor;
using golden::numbers;
using golden::Row;
using golden::split;

namespace {

// The element numbers that a row says its rank holds: per dimension the listed indices, or an interval from the offset on.
std::vector<std::int64_t> expected_of(const Row& row) {
  const Shape shape = numbers(row.at("shape")), local = numbers(row.at("local_shape")), offset = numbers(row.at("offset"));
  std::map<int, std::vector<std::int64_t>> listed;
  if (row.count("indices"))
    for (const std::string& part : split(row.at("indices"), '|')) {
      const auto equals = part.find('=');
      auto& list = listed[std::stoi(part.substr(0, equals))];
      for (const std::string& index : split(part.substr(equals + 1), ' ')) list.push_back(std::stoll(index));
    }
  std::vector<std::int64_t> ids{0};
  for (int d = 0; d < shape.ndim(); ++d) {
    if (!listed.count(d)) {
      listed[d].resize(static_cast<std::size_t>(local[d]));
      std::iota(listed[d].begin(), listed[d].end(), offset[d]);
    }
    std::vector<std::int64_t> next;
    for (std::int64_t id : ids)
      for (std::int64_t i : listed[d]) next.push_back(id * shape[d] + i);
    ids = std::move(next);
  }
  return ids;
}

Placements target_of(const Row& row) {
  const std::vector<Placement> positional = golden::placements_of(row.at("placements"));
  if (!row.count("order")) return Placements(std::span<const Placement>(positional));
  std::vector<AxisPlacement> entries;
  for (const std::string& part : split(row.at("order"), ';'))
    for (const std::string& axis : split(part.substr(part.find(':') + 1), '>'))
      entries.emplace_back(axis, positional[static_cast<std::size_t>(std::stoi(axis))]);
  return Placements(std::move(entries));
}

// Empty when this rank, where the row is about it, holds what the row says.
std::string fault_of(const Row& row, const DTensor& placed, const std::string& coordinate) {
  if (row.at("rank_coordinate") != coordinate) return {};
  const Tensor local = placed.local().contiguous();
  const auto values = local.values<const std::int64_t>();
  if (!(local.shape() == numbers(row.at("local_shape")))) return "local shape " + to_string(local.shape()) + ", expected " + row.at("local_shape");
  const auto expected = expected_of(row);
  return std::equal(values.begin(), values.end(), expected.begin(), expected.end()) ? "" : "other elements";
}

void check_rows(const std::string& name) {
  std::map<std::string, std::vector<Row>> by_mesh;
  for (const Row& row : golden::read_rows(name)) by_mesh[row.at("mesh")].push_back(row);
  std::size_t checked = 0;
  for (const auto& [mesh_text, rows] : by_mesh) {
    std::vector<MeshAxis> axes;
    int ranks = 1;
    for (const std::string& size : split(mesh_text, 'x')) axes.push_back({"", std::stoi(size)}), ranks *= axes.back().size;
    const auto faults = collect({.ranks = ranks, .threads_per_rank = 1}, [&, &rows = rows](World& world) {
      const DeviceMesh mesh = world.mesh(axes);
      std::string coordinate, fault;
      for (int a = 0; a < mesh.ndim(); ++a) coordinate += (a > 0 ? " " : "") + std::to_string(*mesh.coordinate(std::to_string(a)));
      for (const Row& row : rows) {
        const Shape shape = numbers(row.at("shape"));
        std::vector<std::int64_t> ids(static_cast<std::size_t>(shape.numel()));
        std::iota(ids.begin(), ids.end(), 0);
        const Placements target = target_of(row);
        const Tensor whole = Tensor::of(ids, shape);
        const DTensor scattered = distribute(whole, mesh, target);
        // Cut along the last dimension first, so that data move.
        std::vector<Placement> cut(axes.size(), Replicate());
        cut[0] = Shard(shape.ndim() - 1);
        const DTensor moved =
            distribute(whole, mesh, Placements(std::span<const Placement>(cut)), {.source = Source::every_rank}).redistribute(target);
        for (const DTensor* placed : {&scattered, &moved})
          if (const std::string found = fault_of(row, *placed, coordinate); !found.empty() && fault.empty())
            fault = row.at("shape") + " on " + row.at("mesh") + " as " + row.at("placements") + " at " + coordinate + ": " + found;
      }
      return fault;
    });
    for (const std::string& fault : faults) CHECK(fault == "");
    checked += rows.size();
  }
  CHECK_GT(checked, 1000);
}

}  // namespace

TEST_CASE("data distributed and redistributed to the layouts of the reference rows lie where the rows say") { check_rows("layouts.csv"); }

TEST_CASE("data placed by explicit orders of splits lie where the reference rows say") { check_rows("shard_orders.csv"); }
