// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/error_text.h"
#include "dtensor/debug.h"
#include "mesh/mesh_data.h"
#include "placements/layout.h"
#include "redistribute/plan/links.h"
#include "redistribute/plan/plan_data.h"
#include "redistribute/plan/rounds.h"
#include "tensor/impl.h"
#include "world/topology.h"

namespace dtensor {
namespace {

const Topology& topology() { return base::rank_state<world::RankTopology>(base::require_rank("explain")).topology; }

}  // namespace

Plan explain(const DTensor& tensor, const Placements& target) {
  const tensor::Spec& s = *tensor::checked(tensor, "explain").spec;
  return make_plan(s.mesh, s.shape, s.dtype, s.placements(), target, 0, topology());
}

Plan explain(const DTensor& tensor, const DeviceMesh& mesh, const Placements& target) {
  const tensor::Spec& s = *tensor::checked(tensor, "explain").spec;
  return make_plan(s.mesh, s.shape, s.dtype, s.placements(), mesh, target, 0, topology());
}

namespace {

// The route of a tensor and its moves that do something.
struct Trip {
  const tensor::Spec* spec = nullptr;
  redistribute::RouteRef route;
  std::vector<const redistribute::Move*> moves;
};

Trip trip_of(const DTensor& tensor, const Placements& target) {
  Trip trip;
  trip.spec = tensor::checked(tensor, "explain").spec.get();
  const tensor::Spec& s = *trip.spec;
  trip.route = redistribute::find_route(s.layout, placements::make_layout(s.mesh, s.shape, s.dtype, target, "explain"), s.shape, s.dtype,
                                        redistribute::links_of(topology(), s.mesh.data()));
  for (const redistribute::Move& m : trip.route->moves)
    if (m.kind != redistribute::MoveKind::relabel) trip.moves.push_back(&m);
  return trip;
}

std::vector<int> group_of(const Trip& trip, const redistribute::Move& move) {
  const tensor::Spec& s = *trip.spec;
  return mesh::ranks_along(s.mesh.data(), s.inside ? s.coordinates : Shape::filled(s.mesh.ndim(), 0), move.axes);
}

}  // namespace

ListPlan explain(std::span<const DTensor> tensors, std::span<const Placements> targets) {
  if (targets.size() != tensors.size() && targets.size() != 1)
    base::fail<InvalidArgument>("explain: the counts differ ({} tensors, {} placements); give one per tensor, or one for all", tensors.size(),
                                targets.size());
  ListPlan result;
  std::vector<Trip> trips;
  std::vector<std::size_t> counts;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Placements& target = targets[targets.size() == 1 ? 0 : i];
    result.plans.push_back(explain(tensors[i], target));
    trips.push_back(trip_of(tensors[i], target));
    counts.push_back(trips.back().moves.size());
  }
  using redistribute::Departure;
  const auto move = [&](const Departure& d) -> const redistribute::Move& { return *trips[d.tensor].moves[d.move]; };
  const auto together = [&](const Departure& a, const Departure& b) {
    return move(a).kind == move(b).kind && group_of(trips[a.tensor], move(a)) == group_of(trips[b.tensor], move(b));
  };
  for (const auto& step : redistribute::departures(
           counts, [&](const Departure& d) { return move(d).launches > 0; }, together)) {
    const redistribute::Move& first = move(step.front());
    if (first.launches == 0) continue;
    ListPlan::Launch launch{std::string(redistribute::to_string(first.kind)), {}, {}};
    for (int a : first.axes) launch.axes.push_back(trips[step.front().tensor].spec->mesh.names()[static_cast<std::size_t>(a)]);
    for (const Departure& d : step) {
      launch.tensors.push_back(static_cast<int>(d.tensor));
      launch.bytes_received += move(d).bytes_received_total;
    }
    result.launches.push_back(std::move(launch));
  }
  return result;
}

std::string to_string(const ListPlan& plan) {
  const auto count = [](std::size_t n, std::string_view what, std::string_view plural) {
    return fmt::format("{} {}{}", n, what, n == 1 ? "" : plural);
  };
  std::string text = count(plan.plans.size(), "tensor", "s") + ", " + count(plan.launches.size(), "launch", "es");
  for (const ListPlan::Launch& l : plan.launches)
    text += fmt::format("\n  {}[{}] of tensor{} {}: {} on all ranks", l.kind, fmt::join(l.axes, ", "), l.tensors.size() == 1 ? "" : "s",
                        fmt::join(l.tensors, " "), redistribute::bytes_text(l.bytes_received));
  for (std::size_t i = 0; i < plan.plans.size(); ++i) text += fmt::format("\n{}: {}", i, to_string(plan.plans[i]));
  return text;
}

std::string visualize(const DTensor& tensor) {
  const tensor::Spec& s = *tensor::checked(tensor, "visualize").spec;
  return placements::draw_text(s.mesh, s.shape, *s.layout);
}

std::string visualize_svg(const DTensor& tensor) {
  const tensor::Spec& s = *tensor::checked(tensor, "visualize_svg").spec;
  return placements::draw_svg(s.mesh, s.shape, *s.layout);
}

}  // namespace dtensor
