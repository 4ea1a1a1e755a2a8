// SPDX-License-Identifier: Apache-2.0
// Streams and events of the backend as objects. Events come from a pool of the process.
#pragma once

#include <mutex>
#include <vector>

#include "local/cuda/driver.h"
#include "local/device.h"

namespace dtensor::local::cuda {

class OwnedStream final : public DeviceStream {
 public:
  explicit OwnedStream(Device device) : DeviceStream(device, make_stream(device.index)) {}
  /// Of a driver's stream that the object takes over.
  OwnedStream(Device device, Stream stream) noexcept : DeviceStream(device, stream) {}
  ~OwnedStream() override { free_stream(native()); }
};

class PooledEvent final : public DeviceEvent {
 public:
  /// Records on a stream of the device.
  PooledEvent(Device device, Stream stream);
  ~PooledEvent() override;
  bool done() noexcept override;
  void host_waits() override { cuda::host_waits(event_); }
  /// What is queued on `stream` from now on runs after the event.
  void order(Stream stream);
  /// Whether order(stream) has been called.
  bool ordered(Stream stream) const;

 private:
  int device_;
  Event event_;
  mutable std::mutex mutex_;
  std::vector<Stream> before_;
};

}  // namespace dtensor::local::cuda
