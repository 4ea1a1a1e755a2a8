// SPDX-License-Identifier: Apache-2.0
// Changing the placement of one mesh axis and leaving the others, in public terms.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "dtensor/mesh.h"
#include "dtensor/placement.h"

namespace dtensor::parallel {

/// `placements` (of a tensor on `mesh`) with `axis` as given: a split by it applies after those of the other axes.
inline Placements with_axis(const DeviceMesh& mesh, const Placements& placements, const std::string& axis, const Placement& placement) {
  const int position = mesh.axis(axis);
  std::vector<AxisPlacement> list;
  for (const AxisPlacement& e : placements.entries()) {
    // A positional list names its axes by position.
    const std::string name = placements.named() ? e.axis : mesh.names()[static_cast<std::size_t>(std::stoi(e.axis))];
    if (mesh.axis(name) != position) list.emplace_back(name, e.placement);
  }
  if (!placement.is_replicate()) list.emplace_back(axis, placement);
  return Placements(std::move(list));
}

}  // namespace dtensor::parallel
