// SPDX-License-Identifier: Apache-2.0
// The runs of global indices that a rank holds of a dimension, for kernels: one run goes by value, more are uploaded.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "local/cuda/block.h"
#include "local/cuda/rank_device.h"

namespace dtensor::local::cuda {

struct PlacedRun {
  std::int64_t begin = 0, length = 0;
  std::int64_t local = 0;  ///< local index of the first
};

/// Of runs that rise in what is looked up.
struct RunMap {
  PlacedRun one;
  const PlacedRun* more = nullptr;  ///< all, where there is not one
  std::int64_t count = 1;

  /// The last run that begins at or before a value; 0 if none does.
  template <std::int64_t PlacedRun::*start>
  DTENSOR_DEVICE std::int64_t find(std::int64_t value) const {
    std::int64_t low = 0, high = count;
    while (high - low > 1) {
      const std::int64_t middle = (low + high) / 2;
      if (more[middle].*start <= value) low = middle;
      else high = middle;
    }
    return low;
  }
  /// -1: not here. Runs rise in `begin`.
  DTENSOR_DEVICE std::int64_t to_local(std::int64_t global) const {
    const PlacedRun run = more == nullptr ? one : more[find<&PlacedRun::begin>(global)];
    return global >= run.begin && global < run.begin + run.length ? run.local + global - run.begin : -1;
  }
  /// Of an index that is here. Runs rise in `local`.
  DTENSOR_DEVICE std::int64_t to_global(std::int64_t local) const {
    const PlacedRun run = more == nullptr ? one : more[find<&PlacedRun::local>(local)];
    return run.begin + local - run.local;
  }
};

enum class RunOrder : std::uint8_t { of_begin, of_local };
/// Holds what a RunMap points to while kernels are queued. Run: anything with begin and length, in local order.
class RunsOnDevice {
 public:
  template <class Run>
  RunsOnDevice(RankDevice& device, std::span<const Run> runs, RunOrder order) {
    std::vector<PlacedRun> placed;
    std::int64_t local = 0;
    for (const Run& r : runs) {
      if (r.length > 0) placed.push_back({r.begin, r.length, local});
      local += r.length;
    }
    if (placed.size() == 1) map_.one = placed[0];
    if (placed.size() <= 1) return;
    if (order == RunOrder::of_begin)
      std::sort(placed.begin(), placed.end(), [](const PlacedRun& a, const PlacedRun& b) { return a.begin < b.begin; });
    memory_.emplace(device, std::span<const PlacedRun>(placed));
    map_.more = memory_->data();
    map_.count = static_cast<std::int64_t>(placed.size());
  }
  const RunMap& map() const noexcept { return map_; }

 private:
  RunMap map_;
  std::optional<Uploaded<PlacedRun>> memory_;
};

}  // namespace dtensor::local::cuda
