// SPDX-License-Identifier: Apache-2.0
// What a Plan refers to.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "dtensor/plan.h"
#include "redistribute/plan/route.h"

namespace dtensor::redistribute {

struct PlanData {
  RouteRef route;
  DeviceMesh mesh = {};
  LayoutRef from, to;
  Shape shape;
  Dtype dtype = Dtype::f32;
  std::vector<std::string> axis_names;
  DeviceMesh target = {};  ///< of a plan to another mesh
  /// The moves up to the transfer start on the source mesh, those after it on the other.
  bool on_target(const Move& move) const noexcept {
    for (const Move& m : route->moves) {
      if (&m == &move) return false;
      if (m.kind == MoveKind::transfer) return true;
    }
    return false;
  }
  /// The axes that a move's source is on, and its target.
  std::span<const std::string> names_before(const Move& move) const { return on_target(move) ? target.names() : std::span(axis_names); }
  std::span<const std::string> names_after(const Move& move) const { return move.kind == MoveKind::transfer ? target.names() : names_before(move); }
};
/// "S(1) -> R on tp"; the whole layouts where only the order of splits changes.
std::string change_text(const PlanData& plan, const Move& move);
/// "512 B", "1.5 KiB", "4 MiB".
std::string bytes_text(std::int64_t bytes);
/// "4.51 us", "31.2 ms".
std::string time_text(std::int64_t nanoseconds);

}  // namespace dtensor::redistribute
