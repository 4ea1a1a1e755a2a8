// SPDX-License-Identifier: Apache-2.0
// The arithmetic of collectives among ranks whose memory one device reaches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dtensor/placement.h"
#include "dtensor/values.h"
#include "local/cuda/driver.h"
#include "local/device.h"

namespace dtensor::local::cuda {

/// Sources that one reduction takes at most.
inline constexpr int kMostSources = 64;

/// As many boxes as fit into one launch.
void copy_boxes(std::span<const BoxCopy> boxes, std::size_t element_bytes, Stream stream);
/// As DeviceBackend::reduce_box. @throws Unsupported beyond kMostSources.
void reduce_box(std::span<void* const> dsts, const Shape& dst_strides, std::span<const void* const> sources, std::span<const Shape> source_strides,
                const Shape& sizes, Dtype dtype, ReduceOp op, std::int64_t divisor, Stream stream);

/// Bytes that one load may take, 1 to 16: of rows of `inner` elements of `bytes` each, stride 1, from `address`, all other strides (in elements) known.
inline int load_bytes(std::uintptr_t address, std::int64_t inner, int bytes, std::span<const std::int64_t> outer_strides) {
  int width = 16;
  const auto fits = [&](std::int64_t n) { return n % width == 0; };
  const auto all = [&] {
    if (!fits(static_cast<std::int64_t>(address % 16)) || !fits(inner * bytes)) return false;
    for (const std::int64_t s : outer_strides)
      if (!fits(s * bytes)) return false;
    return true;
  };
  while (width > bytes && !all()) width /= 2;
  return width < bytes ? bytes : width;
}

}  // namespace dtensor::local::cuda
