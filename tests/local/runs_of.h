// SPDX-License-Identifier: Apache-2.0
// Runs for tests that have lists of numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "local/runs.h"

namespace dtensor::testing {

inline std::vector<local::GlobalRun> runs_of(const std::vector<std::int64_t>& numbers) {
  std::vector<local::GlobalRun> runs;
  for (const std::int64_t n : numbers)
    if (!runs.empty() && runs.back().begin + runs.back().length == n) ++runs.back().length;
    else runs.push_back({n, 1});
  return runs;
}

}  // namespace dtensor::testing
