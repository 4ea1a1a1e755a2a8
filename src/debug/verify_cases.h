// SPDX-License-Identifier: Apache-2.0
// Which placements of the inputs the checker tries.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dtensor/mesh.h"
#include "dtensor/op.h"
#include "dtensor/placement.h"

namespace dtensor::debug {

/// Placements of each input (empty list for an absent one).
using Case = std::vector<std::vector<Placement>>;

/// Every placement of one axis of `ranks` ranks that is legal for this tensor.
std::vector<Placement> placements_of(const TensorType& type, int ranks);
/// All combinations on one axis for up to two inputs; otherwise a list that has every pair of choices (for two inputs, or two axes of one) at least once.
/// The first is all Replicate. Ill-formed ones are left out. With `limit` > 0 a random sample of that size.
std::vector<Case> make_cases(const std::vector<TensorType>& inputs, const std::vector<bool>& present, const std::vector<int>& mesh, int limit,
                             std::uint64_t seed);
/// A list that make_layout would refuse becomes one that it takes: what an axis may not be is Replicate.
std::vector<Placement> legalized(std::vector<Placement> list);
/// "{0: S(0), 1: P(sum)}".
std::string to_string(const std::vector<Placement>& placements);

}  // namespace dtensor::debug
