// SPDX-License-Identifier: Apache-2.0
// What one rank has on one device: its allocator and the stream on which it queues.
#pragma once

#include <memory>

#include "local/cuda/driver.h"
#include "local/cuda/memory.h"

namespace dtensor::local::cuda {

struct RankDevice {
  Device device;
  Stream own = nullptr;      ///< made for the rank, non-blocking
  Stream current = nullptr;  ///< the own one, or what a StreamScope has set
  std::shared_ptr<DeviceAllocator> allocator;
  explicit RankDevice(Device d);
  RankDevice(const RankDevice&) = delete;
  ~RankDevice();
};

/// Of the calling thread's rank; threads that are no rank share one. Makes the device the thread's.
/// @throws DeviceError for a device that is not there, with what is.
RankDevice& rank_device(Device device);

}  // namespace dtensor::local::cuda
