// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "mesh/mesh_data.h"
#include "redistribute/plan/between.h"
#include "redistribute/plan/links.h"
#include "redistribute/plan/plan_data.h"

namespace dtensor {

using redistribute::bytes_text;
using redistribute::change_text;
using redistribute::Layout;
using redistribute::Move;
using redistribute::PlanData;

namespace {

double microseconds(std::int64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1000; }

std::vector<std::string> names_of(const PlanData& plan, const Move& move) {
  std::vector<std::string> names;
  for (int a : move.axes) names.push_back(plan.names_before(move)[static_cast<std::size_t>(a)]);
  return names;
}

// The placement of one axis, as written in a list.
std::string placement_text(const Layout& layout, int axis) {
  if (const auto op = layout.partial[static_cast<std::size_t>(axis)]) return to_string(Placement(Partial(*op)));
  const int dim = layout.dim_of(axis);
  if (dim < 0) return to_string(Placement(Replicate()));
  for (const placements::Split& split : layout.dims[static_cast<std::size_t>(dim)]) {
    if (std::find(split.axes.begin(), split.axes.end(), axis) == split.axes.end()) continue;
    if (!split.sizes.empty()) return to_string(Placement(RaggedShard{dim, split.sizes}));
    if (split.pieces > 1) return to_string(Placement(StridedShard(dim, split.pieces)));
  }
  return to_string(Placement(Shard(dim)));
}

std::string placements_text(const Layout& layout, const std::vector<int>& axes) {
  std::vector<std::string> texts;
  for (int a : axes) texts.push_back(placement_text(layout, a));
  return texts.size() == 1 ? texts[0] : fmt::format("({})", fmt::join(texts, ", "));
}

}  // namespace

std::string redistribute::bytes_text(std::int64_t bytes) {
  constexpr std::array<const char*, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  double value = static_cast<double>(bytes);
  // What would be printed as 1024 goes to the next unit.
  for (; value >= 1023.5 && unit + 1 < units.size() && !(unit == 0 && value < 1024); ++unit) value /= 1024;
  return fmt::format("{:.4g} {}", value, units[unit]);
}

std::string redistribute::time_text(std::int64_t nanoseconds) {
  const double us = microseconds(nanoseconds);
  return us >= 1000 ? fmt::format("{:.3g} ms", us / 1000) : fmt::format("{:.3g} us", us);
}

std::string redistribute::change_text(const PlanData& plan, const Move& move) {
  std::string before = placements_text(*move.from, move.axes), after = placements_text(*move.to, move.axes);
  if (move.axes.empty() || before == after)
    return placements::to_string(*move.from, plan.names_before(move)) + " -> " + placements::to_string(*move.to, plan.names_after(move));
  return fmt::format("{} -> {} on {}", before, after, fmt::join(names_of(plan, move), "+"));
}

std::vector<PlanMove> Plan::moves() const {
  std::vector<PlanMove> result;
  for (const Move& m : data_->route->moves)
    result.push_back({std::string(redistribute::to_string(m.kind)),
                      names_of(*data_, m),
                      change_text(*data_, m),
                      {m.bytes_received_max, m.bytes_received_total},
                      m.launches,
                      microseconds(m.nanoseconds)});
  return result;
}
int Plan::launches() const noexcept { return data_->route->launches; }
Bytes Plan::bytes_received() const noexcept { return {data_->route->bytes_received_max, data_->route->bytes_received_total}; }
Bytes Plan::lower_bound() const noexcept { return {data_->route->lower_bound_max, data_->route->lower_bound_total}; }
double Plan::predicted_us() const noexcept { return microseconds(data_->route->nanoseconds); }
double Plan::gap_us() const noexcept { return microseconds(data_->route->gap_nanoseconds); }
std::int64_t Plan::peak_bytes() const noexcept { return data_->route->peak_bytes; }
int Plan::chunks() const noexcept { return data_->route->chunks.count; }

std::string Plan::json() const {
  using Json = nlohmann::ordered_json;
  const auto pair = [](const Bytes& b) { return Json{{"max", b.max}, {"total", b.total}}; };
  Json list = Json::array();
  for (const PlanMove& m : moves())
    list.push_back(
        Json{{"kind", m.kind}, {"axes", m.axes}, {"bytes_received", m.received.max}, {"launches", m.launches}, {"predicted_us", m.predicted_us}});
  const Json all{{"moves", std::move(list)},
                 {"bytes_received", pair(bytes_received())},
                 {"lower_bound", pair(lower_bound())},
                 {"predicted_us", predicted_us()},
                 {"gap_us", gap_us()},
                 {"peak_bytes", peak_bytes()},
                 {"chunks", chunks()}};
  return all.dump(2);
}

std::string to_string(const Plan& plan) {
  const PlanData& data = *plan.data_;
  const std::string from = placements::to_string(data.dtype, data.shape, *data.from, data.axis_names);
  std::string text = data.target ? fmt::format("{} on {} -> {} on {}\n", from, dtensor::to_string(data.mesh),
                                               placements::to_string(*data.to, data.target.names()), dtensor::to_string(data.target))
                                 : fmt::format("{} -> {}\n", from, placements::to_string(*data.to, data.axis_names));
  const std::vector<PlanMove> moves = plan.moves();
  if (moves.empty()) return text + "  nothing to do";
  const redistribute::Chunks& chunks = data.route->chunks;
  if (chunks.count > 1)
    text += fmt::format("  in {} chunks of dim {}, {} of its indices on a rank at a time:\n", chunks.count, chunks.dim, chunks.size);
  for (const PlanMove& m : moves) {
    const std::string axes = m.axes.empty() ? "" : fmt::format("[{}]", fmt::join(m.axes, ", "));
    text += fmt::format("  {}: {}{}{}\n", m.change, m.kind, axes, m.launches > 0 ? " " + bytes_text(m.received.max) : "");
  }
  const Bytes received = plan.bytes_received(), least = plan.lower_bound();
  const std::string gap =
      received == least ? "met" : fmt::format("gap {}, {}", bytes_text(received.max - least.max), bytes_text(received.total - least.total));
  text += fmt::format("  {} {}, received {} on the worst rank, {} on all (lower bound {}, {}; {}), peak {}, predicted {}", plan.launches(),
                      plan.launches() == 1 ? "launch" : "launches", bytes_text(received.max), bytes_text(received.total), bytes_text(least.max),
                      bytes_text(least.total), gap, bytes_text(plan.peak_bytes()), redistribute::time_text(data.route->nanoseconds));
  if (data.route->gap_nanoseconds > 0) text += fmt::format(" (at most {} above the cheapest)", redistribute::time_text(data.route->gap_nanoseconds));
  return text;
}

Plan make_plan(const DeviceMesh& mesh, const Shape& shape, Dtype dtype, const Placements& from, const Placements& to, std::int64_t memory_limit) {
  return make_plan(mesh, shape, dtype, from, to, memory_limit, Topology());
}

Plan make_plan(const DeviceMesh& mesh, const Shape& shape, Dtype dtype, const Placements& from, const Placements& to, std::int64_t memory_limit,
               const Topology& topology) {
  PlanData data;
  data.from = placements::make_layout(mesh, shape, dtype, from, "plan");
  data.to = placements::make_layout(mesh, shape, dtype, to, "plan");
  data.mesh = mesh;
  data.shape = shape;
  data.dtype = dtype;
  data.axis_names = mesh.data().names;
  data.route = redistribute::find_route(data.from, data.to, shape, dtype, redistribute::links_of(topology, mesh.data()), memory_limit);
  return Plan(std::make_shared<const PlanData>(std::move(data)));
}

Plan make_plan(const DeviceMesh& mesh, const Shape& shape, Dtype dtype, const Placements& from, const DeviceMesh& target, const Placements& to,
               std::int64_t memory_limit) {
  return make_plan(mesh, shape, dtype, from, target, to, memory_limit, Topology());
}

Plan make_plan(const DeviceMesh& mesh, const Shape& shape, Dtype dtype, const Placements& from, const DeviceMesh& target, const Placements& to,
               std::int64_t memory_limit, const Topology& topology) {
  if (mesh == target) return make_plan(mesh, shape, dtype, from, to, memory_limit, topology);
  redistribute::check_worlds(mesh, target);
  PlanData data;
  data.from = placements::make_layout(mesh, shape, dtype, from, "plan");
  data.to = placements::make_layout(target, shape, dtype, to, "plan");
  data.mesh = mesh;
  data.target = target;
  data.shape = shape;
  data.dtype = dtype;
  data.axis_names = mesh.data().names;
  data.route = redistribute::find_route_between({data.from, mesh.data().ranks}, {data.to, target.data().ranks}, shape, dtype,
                                                redistribute::links_between(topology, mesh.data(), target.data()), memory_limit);
  return Plan(std::make_shared<const PlanData>(std::move(data)));
}

}  // namespace dtensor
