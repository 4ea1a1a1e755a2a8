// SPDX-License-Identifier: Apache-2.0
// Streams and events of the backend as objects. Both come from pools of the process.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "local/cuda/driver.h"
#include "local/cuda/recordings.h"
#include "local/device.h"

namespace dtensor::local::cuda {

/// A stream of the library. Native streams go back to a pool of the process and are never destroyed: blocks of memory that belong to one serve the next
/// object that has it, in order after what the one before has queued.
class OwnedStream final : public DeviceStream {
 public:
  explicit OwnedStream(Device device);
  ~OwnedStream() override;
};

class PooledEvent final : public DeviceEvent {
 public:
  /// Records on a stream of the device.
  PooledEvent(Device device, Stream stream);
  ~PooledEvent() override;
  /// Of a recording: false until it ends, then true.
  bool done() noexcept override;
  /// @throws InvalidArgument in the recording that the event is of.
  void host_waits() override;
  /// What is queued on `stream` from now on runs after the event. A stream that records has no order with what does not: for an event of before the host
  /// waits, one of a recording that has ended orders nothing (replays are in the order of their stream).
  /// @throws InvalidArgument for an event of a stream that does not take part in the recording, made while it goes on.
  void order(Stream stream);
  /// Whether order has been called for the stream of this number (stream_id).
  bool ordered(std::uint64_t stream) const;

 private:
  int device_;
  Event event_;
  RecordingMark recording_;  // that the event is of
  bool beside_ = false;      // made while the rank records, on a stream that does not
  mutable std::mutex mutex_;
  std::vector<std::uint64_t> before_;  // numbers of streams
};

}  // namespace dtensor::local::cuda
