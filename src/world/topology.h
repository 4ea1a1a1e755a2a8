// SPDX-License-Identifier: Apache-2.0
// The topology of the world, as each rank keeps it.
#pragma once

#include <cstdint>

#include "dtensor/topology.h"

namespace dtensor::world {

/// Rank state; set on all ranks alike by World::set_topology.
struct RankTopology {
  Topology topology;
  std::uint64_t hash = topology.hash();  ///< part of the key of every plan of a call
};

}  // namespace dtensor::world
