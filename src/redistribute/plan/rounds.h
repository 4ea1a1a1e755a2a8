// SPDX-License-Identifier: Apache-2.0
// In which order several tensors on their way make their moves, and which of these go in one launch.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace dtensor::redistribute {

/// Move `move` of those of tensor `tensor`.
struct Departure {
  std::size_t tensor = 0, move = 0;
};

/// Every move of `counts[i]` ones of each tensor i, in steps. One that does not communicate is a step of its own and comes as early as it can; of the others
/// the next ones of all tensors make a round, in which those for which together(a, b) are one step, placed by the first of them.
template <class Communicates, class Together>
std::vector<std::vector<Departure>> departures(std::span<const std::size_t> counts, Communicates&& communicates, Together&& together) {
  std::vector<std::vector<Departure>> steps;
  std::vector<std::size_t> done(counts.size(), 0);
  while (true) {
    std::vector<Departure> round;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      for (; done[i] < counts[i] && !communicates(Departure{i, done[i]}); ++done[i]) steps.push_back({{i, done[i]}});
      if (done[i] < counts[i]) round.push_back({i, done[i]++});
    }
    if (round.empty()) return steps;
    // All ranks of a group see the same members of a step, so its place by the first of them is the same on each.
    while (!round.empty()) {
      const Departure first = round.front();
      const auto others = std::stable_partition(round.begin(), round.end(), [&](const Departure& d) { return together(first, d); });
      steps.emplace_back(round.begin(), others);
      round.erase(round.begin(), others);
    }
  }
}

}  // namespace dtensor::redistribute
