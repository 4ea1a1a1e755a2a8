// SPDX-License-Identifier: Apache-2.0
// The pieces of a whole row-major tensor that a rank holds, as pairs of positions: what it writes and reads of a file.
#pragma once

#include <cstdint>
#include <vector>

#include "dtensor/values.h"
#include "placements/layout.h"

namespace dtensor::checkpoints {

/// `length` consecutive elements at `whole` of the row-major whole tensor and at `local` of the row-major local one.
struct Segment {
  std::int64_t whole = 0, local = 0, length = 0;
};
/// All that the rank at `coordinates` owns, ascending in `local`, neighbours merged.
std::vector<Segment> segments(const placements::Layout& layout, const Shape& shape, const Shape& coordinates);
/// True on the one rank of each replica group that writes.
bool is_writer(const placements::Layout& layout, const Shape& coordinates);

}  // namespace dtensor::checkpoints
