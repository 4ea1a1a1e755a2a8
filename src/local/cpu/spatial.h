// SPDX-License-Identifier: Apache-2.0
// The last dims of images as three: the first of them stand for dims that are not there.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

using SpatialSizes = std::array<std::int64_t, 3>;

/// Where spatial dim d of `spatial` (1 to 3) stands among the three.
constexpr std::size_t spatial_place(int d, int spatial) noexcept {
  const int place = 3 - spatial + d;
  return static_cast<std::size_t>(place);
}
inline SpatialSizes spatial_sizes(const Tensor& t, int spatial) {
  SpatialSizes sizes{1, 1, 1};
  for (int d = 0; d < spatial; ++d) sizes[spatial_place(d, spatial)] = t.shape()[t.ndim() - spatial + d];
  return sizes;
}

}  // namespace dtensor::local::cpu
