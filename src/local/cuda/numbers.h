// SPDX-License-Identifier: Apache-2.0
// Lists of numbers of the host (positions along a dimension, numbers of rows) as kernels read them, and what index mathematics on the device needs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "local/cuda/axes.h"
#include "local/cuda/block.h"
#include "local/cuda/rank_device.h"

namespace dtensor::local::cuda {

/// Cuts the last index, of `size`, off a row-major one.
DTENSOR_DEVICE inline std::int64_t cut_last(std::int64_t& index, std::int64_t size) {
  const std::int64_t rest = quotient(index, size), last = index - rest * size;
  index = rest;
  return last;
}

/// A list: a few runs of equal steps, or memory of the device.
struct Numbers {
  static constexpr int kRuns = 4;
  struct Run {
    std::int64_t begin = 0, first = 0, step = 0;
  };
  Run run[kRuns];
  int runs = 0;  ///< 0: the list has more than kRuns
  const std::int64_t* list = nullptr;

  DTENSOR_DEVICE std::int64_t operator[](std::int64_t i) const {
    if (list != nullptr) return list[i];
    Run r = run[0];
    for (int k = 1; k < kRuns; ++k)
      if (k < runs && run[k].begin <= i) r = run[k];
    return r.first + (i - r.begin) * r.step;
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
  const Numbers& get() const noexcept { return numbers_; }

 private:
  Numbers numbers_;
  std::optional<Uploaded<std::int64_t>> memory_;
};

}  // namespace dtensor::local::cuda
