// SPDX-License-Identifier: Apache-2.0
// Numbers of rows and columns as runs: what a rank holds of a dimension takes a few of them, however long it is.
#pragma once

#include <cstdint>
#include <span>

#include "local/random.h"

namespace dtensor::local {

using GlobalRuns = std::span<const GlobalRun>;

inline std::int64_t length_of(GlobalRuns runs) noexcept {
  std::int64_t length = 0;
  for (const GlobalRun& r : runs) length += r.length;
  return length;
}
/// f(number) for each, in order.
template <class F>
void for_each_number(GlobalRuns runs, const F& f) {
  for (const GlobalRun& r : runs)
    for (std::int64_t i = 0; i < r.length; ++i) f(r.begin + i);
}

}  // namespace dtensor::local
