// SPDX-License-Identifier: Apache-2.0
// Which rank records, as events, memory and waits ask. One load where nobody does.
#pragma once

#include <atomic>
#include <memory>

#include "dtensor/values.h"

namespace dtensor::local::cuda {

/// Outlives the recording: events of it ask.
struct RecordingState {
  std::atomic<bool> over{false};
};
using RecordingMark = std::shared_ptr<const RecordingState>;

/// How many ranks of the process record.
inline std::atomic<int> recordings{0};
inline bool any_recording() noexcept { return recordings.load(std::memory_order_relaxed) != 0; }
/// Of the calling rank's recording; null: there is none.
RecordingMark current_mark();
/// @throws InvalidArgument: the host asks for what runs only at a replay.
[[noreturn]] void refuse_wait(Device device);

}  // namespace dtensor::local::cuda
