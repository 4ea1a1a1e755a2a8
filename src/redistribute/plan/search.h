// SPDX-License-Identifier: Apache-2.0
// The shortest path over layouts: A* with labels, exact for the total order (cost, launches, peak, encoding of the moves).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "redistribute/plan/figures.h"
#include "redistribute/plan/route.h"
#include "redistribute/plan/space.h"

namespace dtensor::redistribute {

struct Step {
  MoveKind kind = MoveKind::relabel;
  AxisMask axes = 0;
  State from, to;
  std::int64_t nanoseconds = 0;
};
struct Found {
  std::vector<Step> steps;
  std::int64_t peak_bytes = 0;
  std::int64_t gap = 0;  ///< nanoseconds: no steps take less by more than this; 0 where the search came to its end
};

/// The steps from `from` to `to`; none when the states are the same. `effort` > 0: once that many moves were looked at (a way that is kept counts for ten
/// more) and a way is known, the best one known. It is counted, not timed, so that all ranks stop alike.
Found search(Space& space, const Costs& costs, const State& from, const State& to, std::int64_t effort = 0);
/// The cheapest of those with a peak of at most `limit` > 0 bytes.
std::optional<Found> search_within(Space& space, const Costs& costs, const State& from, const State& to, std::int64_t limit);
/// Those with the least peak, whatever their cost.
Found search_smallest(Space& space, const Costs& costs, const State& from, const State& to);

}  // namespace dtensor::redistribute
