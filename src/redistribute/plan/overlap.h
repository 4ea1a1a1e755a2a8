// SPDX-License-Identifier: Apache-2.0
// Where the indices of one owner lie in the local order of another. Owned indices always ascend, so the order of overlaps by
// global index is their order on both sides.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "placements/layout.h"

namespace dtensor::redistribute {

/// `count` intervals of `length` indices: the first at local positions `from` and `to`, each next one `from_step` and `to_step` further.
struct Overlap {
  std::int64_t from = 0, to = 0, length = 0;
  std::int64_t count = 1, from_step = 0, to_step = 0;
};
/// The indices that two owners share, as intervals consecutive on both sides (count 1), as few as possible.
std::vector<Overlap> overlaps(std::span<const placements::Run> from, std::span<const placements::Run> to);
/// Joins evenly spaced intervals of one length.
std::vector<Overlap> combed(std::span<const Overlap> intervals);
/// Number of indices that two owners share.
std::int64_t overlap_size(std::span<const placements::Run> from, std::span<const placements::Run> to) noexcept;

}  // namespace dtensor::redistribute
