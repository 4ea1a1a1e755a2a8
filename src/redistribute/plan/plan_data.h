// SPDX-License-Identifier: Apache-2.0
// What a Plan refers to.
#pragma once

#include <string>
#include <vector>

#include "dtensor/plan.h"
#include "redistribute/plan/route.h"

namespace dtensor::redistribute {

struct PlanData {
  RouteRef route;
  DeviceMesh mesh;
  LayoutRef from, to;
  Shape shape;
  Dtype dtype = Dtype::f32;
  std::vector<std::string> axis_names;
};
/// "S(1) -> R on tp"; the whole layouts where only the order of splits changes.
std::string change_text(const PlanData& plan, const Move& move);
/// "512 B", "1.5 KiB", "4 MiB".
std::string bytes_text(std::int64_t bytes);
/// "4.51 us", "31.2 ms".
std::string time_text(std::int64_t nanoseconds);

}  // namespace dtensor::redistribute
