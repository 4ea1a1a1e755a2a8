// SPDX-License-Identifier: Apache-2.0
// What a DeviceMesh refers to, and its construction for the layers above.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dtensor/mesh.h"
#include "dtensor/values.h"

namespace dtensor::mesh {

struct MeshData : std::enable_shared_from_this<MeshData> {
  std::uint64_t world_id = 0;
  std::vector<std::string> names;  ///< one per axis, "0" "1" ... where unnamed
  std::vector<int> sizes;          ///< one per axis
  std::vector<int> ranks;          ///< world ranks, row-major
  std::uint64_t hash = 0;          ///< of everything above but world_id: equal on all ranks of a job
};

/// The interned mesh of these values. `ranks` empty means 0 .. product-1. A size of -1 (one at most) is what is left of the world.
/// @throws InvalidArgument: "mesh: ..." for no axis, more than eight, sizes below one, repeated or missing ranks, a product that is not the
/// number of ranks (more than the world's when none are given), names repeated, or empty beside others (all empty: unnamed), or with characters
/// outside [A-Za-z0-9_.-], or a number that is not the axis' position.
DTENSOR_EXPORT DeviceMesh make_mesh(std::uint64_t world_id, int world_size, std::span<const MeshAxis> axes, std::span<const int> ranks);
/// Coordinates of world rank `rank`, one per axis; false when it is not in the mesh. O(1) where ranks are consecutive.
DTENSOR_EXPORT bool coordinates_of(const MeshData& mesh, int rank, Shape& coordinates);
/// World ranks of the sub-grid through `coordinates` along `axes` (positions; row-major in the order given).
DTENSOR_EXPORT std::vector<int> ranks_along(const MeshData& mesh, const Shape& coordinates, std::span<const int> axes);

}  // namespace dtensor::mesh
