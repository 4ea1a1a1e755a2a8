// SPDX-License-Identifier: Apache-2.0
// What one rank has on one device: its allocator and the stream on which it queues.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "local/cuda/driver.h"
#include "local/cuda/events.h"
#include "local/cuda/memory.h"
#include "local/cuda/pinned.h"

namespace dtensor::local::cuda {

class Recording;

struct RankDevice {
  Device device;
  std::shared_ptr<OwnedStream> own;  ///< made for the rank, non-blocking
  DeviceStreamRef current_stream;    ///< the own one, or what a StreamScope has set
  Stream current = nullptr;          ///< the same
  std::shared_ptr<DeviceAllocator> allocator;
  PinnedRing staging;              ///< for upload
  Faults faults;                   ///< checked at every call for the device and where the host waits
  Recording* recording = nullptr;  ///< null: what is queued runs
  std::vector<Recording*> graphs;  ///< all that there are
  bool hangs = false;              ///< a replay may never end
  std::vector<std::weak_ptr<SideStream>> side_streams;
  std::shared_ptr<char> life = std::make_shared<char>();  ///< for what may outlive the rank
  explicit RankDevice(Device d);
  RankDevice(const RankDevice&) = delete;
  ~RankDevice();
};

/// @throws DeviceError for a device that is not there, with what is.
void check_exists(Device device);
/// Of the calling thread's rank; threads that are no rank share one. Makes the device the thread's.
/// @throws DeviceError as check_exists; Error for what a kernel of an earlier call found wrong.
RankDevice& rank_device(Device device);
/// The same without a look at what kernels found.
RankDevice& unchecked_rank_device(Device device);
/// As DeviceBackend::end_graphs.
bool end_recordings() noexcept;
/// Of the device of a kernel's tensor.
inline RankDevice& rank_device(const Tensor& t) { return rank_device(t.device()); }

/// Memory for one launch, on the current stream: it goes back to the allocator, in the order of the stream, when the object ends.
class Scratch {
 public:
  Scratch(RankDevice& device, std::size_t bytes) : buffer_(device.allocator->allocate(bytes, device.current)) {}
  template <class T>
  T* as() const noexcept {
    return static_cast<T*>(buffer_->data());
  }

 protected:
  base::Ref<Buffer> buffer_;
};

/// Copies bytes of the host to the device on the current stream, without a wait up to 64 KiB.
void upload(RankDevice& device, void* to, const void* from, std::size_t bytes);
/// Values of the host for kernels queued on the current stream while the object lives; the host does not wait.
template <class T>
class Uploaded {
 public:
  Uploaded(RankDevice& device, std::span<const T> values) : memory_(device, values.size_bytes()) {
    upload(device, memory_.as<void>(), values.data(), values.size_bytes());
  }
  const T* data() const noexcept { return memory_.template as<T>(); }

 private:
  Scratch memory_;
};

}  // namespace dtensor::local::cuda
