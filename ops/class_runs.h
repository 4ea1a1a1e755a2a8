// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dtensor/op.h"
#include "local/cpu/losses.h"

namespace dtensor::ops {

/// Classes are dim `dim` of the operand at `place`.
inline local::cpu::Classes classes_of(const Place& place, int dim) {
  local::cpu::Classes classes{.count = place.global[dim]};
  std::int64_t local = 0;
  for (const IndexRun& r : place.runs[static_cast<std::size_t>(dim)]) {
    classes.runs.push_back({r.begin, r.length, local});
    local += r.length;
  }
  return classes;
}

}  // namespace dtensor::ops
