// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/elements.h"

#include <span>

namespace dtensor::local::cuda {

ElementsOnDevice::ElementsOnDevice(RankDevice& device, const cpu::ElementsCall& c, const Shape& whole) {
  Elements& e = elements_;
  const Shape strides = contiguous_strides(whole);
  e.at = c.at.raw_as<const std::int64_t>();
  e.count = c.shape.numel();
  e.length = c.shape[c.dim];
  e.step = strides[c.dim];
  for (int d = 0; d < c.shape.ndim(); ++d) {
    if (d > c.dim) e.inner *= c.shape[d];
    if (d == c.dim) continue;
    const cpu::CoordinateMap& map = c.others[static_cast<std::size_t>(d)];
    if (c.shape[d] == 1 && map.at(0) == 0) continue;
    e.sizes[e.dims] = c.shape[d];
    e.strides[e.dims] = strides[d];
    e.first[e.dims] = map.first;
    e.lengths[e.dims] = map.length;
    if (!map.list.empty()) e.lists[e.dims] = lists_.emplace_back(device, std::span<const std::int64_t>(map.list)).data();
    ++e.dims;
  }
}

}  // namespace dtensor::local::cuda
