// SPDX-License-Identifier: Apache-2.0
// Which classes are here, as kernels look it up.
#pragma once

#include <optional>
#include <span>

#include "local/cpu/losses.h"
#include "local/cuda/block.h"
#include "local/cuda/rank_device.h"

namespace dtensor::local::cuda {

struct ClassesOnDevice {
  std::int64_t count = 0;  ///< of all
  cpu::ClassRun first;     ///< in place of a list of one
  const cpu::ClassRun* runs = nullptr;
  std::int64_t run_count = 0;
  /// The local index of a class, -1: elsewhere.
  DTENSOR_DEVICE std::int64_t to_local(std::int64_t i) const {
    return runs == nullptr ? cpu::local_class(&first, 1, i) : cpu::local_class(runs, run_count, i);
  }
};

/// For kernels queued while it lives.
class ClassRuns {
 public:
  ClassRuns(RankDevice& d, const cpu::Classes& classes) {
    view_.count = classes.count;
    view_.run_count = static_cast<std::int64_t>(classes.runs.size());
    if (classes.runs.size() == 1) view_.first = classes.runs[0];
    if (classes.runs.size() < 2) return;
    uploaded_.emplace(d, std::span<const cpu::ClassRun>(classes.runs));
    view_.runs = uploaded_->data();
  }
  const ClassesOnDevice& on_device() const noexcept { return view_; }

 private:
  ClassesOnDevice view_;
  std::optional<Uploaded<cpu::ClassRun>> uploaded_;
};

}  // namespace dtensor::local::cuda
