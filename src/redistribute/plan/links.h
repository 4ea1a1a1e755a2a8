// SPDX-License-Identifier: Apache-2.0
// From the public topology to the links of one mesh.
#pragma once

#include <string_view>

#include "dtensor/topology.h"
#include "mesh/mesh_data.h"
#include "redistribute/plan/route.h"

namespace dtensor::redistribute {

/// @throws InvalidArgument "topology: ..." naming the key and value of the first bad figure.
void check_figures(const dtensor::Topology& topology);
/// One link per axis of the mesh. O(ranks of the mesh) with hosts. @throws as check_figures, and for ranks beyond the hosts.
Topology links_of(const dtensor::Topology& topology, const mesh::MeshData& mesh);

}  // namespace dtensor::redistribute
