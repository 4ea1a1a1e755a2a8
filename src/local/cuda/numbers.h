// SPDX-License-Identifier: Apache-2.0
// Lists of numbers of the host (positions along a dimension, numbers of rows) as kernels read them, and what index mathematics on the device needs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "local/cuda/axes.h"
#include "local/cuda/block.h"
#include "local/cuda/rank_device.h"
#include "local/runs.h"

namespace dtensor::local::cuda {

/// Cuts the last index, of `size`, off a row-major one.
DTENSOR_DEVICE inline std::int64_t cut_last(std::int64_t& index, std::int64_t size) {
  const std::int64_t rest = quotient(index, size), last = index - rest * size;
  index = rest;
  return last;
}

/// A list: a few runs of equal steps, or memory of the device that has more runs or the numbers.
struct Numbers {
  static constexpr int kRuns = 4;
  struct Run {
    std::int64_t begin = 0, first = 0, step = 0;
  };
  Run run[kRuns];
  int runs = 0;  ///< in `run`; 0: the list has more than kRuns
  const std::int64_t* list = nullptr;
  const Run* table = nullptr;
  int table_runs = 0;

  DTENSOR_DEVICE std::int64_t operator[](std::int64_t i) const {
    if (list != nullptr) return list[i];
    if (table != nullptr) return in_table(i);
    Run r = run[0];
    for (int k = 1; k < kRuns; ++k)
      if (k < runs && run[k].begin <= i) r = run[k];
    return r.first + (i - r.begin) * r.step;
  }

 private:
  DTENSOR_DEVICE std::int64_t in_table(std::int64_t i) const {
    int low = 0, high = table_runs;  // the last that begins at i or before is in [low, high)
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (table[middle].begin <= i) low = middle;
      else high = middle;
    }
    return table[low].first + (i - table[low].begin);
  }
};

/// As runs; runs == 0 where it takes too many. An empty list is one run.
inline Numbers runs_of(std::span<const std::int64_t> values) {
  Numbers n;
  n.runs = 1;
  const auto size = static_cast<std::int64_t>(values.size());
  for (std::int64_t i = 0, begin = 0; i < size; ++i) {
    Numbers::Run& last = n.run[n.runs - 1];
    const std::int64_t value = values[static_cast<std::size_t>(i)];
    if (i == begin) last = {begin, value, 0};
    else if (i == begin + 1) last.step = value - last.first;
    else if (value != last.first + (i - begin) * last.step) {
      if (n.runs == Numbers::kRuns) return {};
      n.run[n.runs++] = {i, value, 0};
      begin = i;
    }
  }
  return n;
}

/// A list of the host for kernels queued while the object lives.
class DeviceNumbers {
 public:
  DeviceNumbers(RankDevice& device, std::span<const std::int64_t> values) : numbers_(runs_of(values)) {
    if (numbers_.runs > 0) return;
    memory_.emplace(device, values);
    numbers_.list = memory_->data();
  }
  /// Of runs of numbers that go up by one; the host looks at no number.
  DeviceNumbers(RankDevice& device, GlobalRuns runs) {
    std::vector<Numbers::Run> all;
    std::int64_t begin = 0;
    for (const GlobalRun& r : runs) {
      if (r.length > 0) all.push_back({begin, r.begin, 1});
      begin += r.length;
    }
    if (all.size() <= Numbers::kRuns) {
      std::copy(all.begin(), all.end(), numbers_.run);
      numbers_.runs = std::max(1, static_cast<int>(all.size()));
      return;
    }
    numbers_.table = table_.emplace(device, std::span<const Numbers::Run>(all)).data();
    numbers_.table_runs = static_cast<int>(all.size());
  }
  const Numbers& get() const noexcept { return numbers_; }

 private:
  Numbers numbers_;
  std::optional<Uploaded<Numbers::Run>> table_;
  std::optional<Uploaded<std::int64_t>> memory_;
};

}  // namespace dtensor::local::cuda
