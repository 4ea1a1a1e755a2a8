// SPDX-License-Identifier: Apache-2.0
// Part of a tensor as the cartesian product of runs, one list per dimension.
#pragma once

#include <vector>

#include "dtensor/tensor.h"
#include "placements/layout.h"
#include "redistribute/move.h"

namespace dtensor::redistribute::moves {

using RunLists = std::vector<std::vector<placements::Run>>;

/// Calls f(part, packed) for every box of the product: its view in `whole` and where it lies in `parts`, which holds the boxes' runs one after another.
template <class F>
void each_box(const Tensor& whole, const Tensor& parts, const RunLists& runs, const F& f, int dim = 0) {
  if (dim == whole.ndim()) {
    f(whole, parts);
    return;
  }
  std::int64_t at = 0;
  for (const placements::Run& r : runs[static_cast<std::size_t>(dim)]) {
    each_box(whole.narrow(dim, r.begin, r.length), parts.narrow(dim, at, r.length), runs, f, dim + 1);
    at += r.length;
  }
}

/// move.runs of `in`: a view where that is allowed and the part is one interval per dimension, else a copy.
Tensor part_of(const PreparedMove& move, const Tensor& in, bool view_allowed);

}  // namespace dtensor::redistribute::moves
