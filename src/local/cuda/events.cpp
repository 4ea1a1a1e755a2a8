// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/events.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "base/error_text.h"
#include "local/cuda/recording.h"

namespace dtensor::local::cuda {
namespace {

// Handles that nobody has, by device. Those of the process are never destroyed: what static objects hold comes back late.
class Pool {
 public:
  Pool(void* (*make)(int device), bool (*is_fit)(void* handle)) : make_(make), is_fit_(is_fit) {}
  void* take(int device) {
    {
      const std::lock_guard lock(mutex_);
      auto& free = by_device_[device];
      if (const auto found = std::find_if(free.rbegin(), free.rend(), is_fit_); found != free.rend()) {
        void* const handle = *found;
        free.erase(std::next(found).base());
        return handle;
      }
    }
    return make_(device);
  }
  void give(int device, void* handle) noexcept {
    const std::lock_guard lock(mutex_);
    by_device_[device].push_back(handle);
  }

 private:
  void* (*make_)(int device);
  bool (*is_fit_)(void* handle);
  std::mutex mutex_;
  std::map<int, std::vector<void*>> by_device_;
};
Pool& events() {
  static Pool* const p = new Pool(make_event, [](void*) { return true; });
  return *p;
}
// One on which something hangs, as after a collective that nobody else joined, is not given again.
Pool& streams() {
  static Pool* const p = new Pool(make_stream, [](void* stream) { return !(any_recording() && is_recording(stream)) && is_idle(stream); });
  return *p;
}

}  // namespace

OwnedStream::OwnedStream(Device device) : DeviceStream(device, streams().take(device.index)) {}
OwnedStream::~OwnedStream() { streams().give(device().index, native()); }

PooledEvent::PooledEvent(Device device, Stream stream) : device_(device.index), event_(events().take(device.index)) {
  try {
    record(event_, stream);
    if (RecordingMark mark = current_mark()) {
      beside_ = !is_recording(stream);
      if (!beside_) recording_ = std::move(mark);
    }
  } catch (...) {
    events().give(device_, event_);
    throw;
  }
}

PooledEvent::~PooledEvent() { events().give(device_, event_); }

bool PooledEvent::done() noexcept {
  if (recording_) return recording_->over.load(std::memory_order_acquire);
  try {
    return is_done(event_);
  } catch (...) { return true; }  // the device has failed: nothing of it runs any more, and the next call says so
}

void PooledEvent::host_waits() {
  if (!recording_) return cuda::host_waits(event_);
  if (!done()) refuse_wait(Device::cuda(device_));
}

void PooledEvent::order(Stream stream) {
  if (recording_ && done()) return;
  const std::uint64_t id = stream_id(stream);
  const std::lock_guard lock(mutex_);
  if (std::find(before_.begin(), before_.end(), id) != before_.end()) return;
  if (recording_ || !any_recording() || !is_recording(stream)) order_after(stream, event_);
  else if (!beside_) cuda::host_waits(event_);
  else
    base::fail<InvalidArgument>(
        "CudaGraph::record: the recording waits for a stream that does not take part in it; let that stream wait for the current one first "
        "(Stream::wait, or an ordered StreamScope)");
  before_.push_back(id);
}

bool PooledEvent::ordered(std::uint64_t stream) const {
  const std::lock_guard lock(mutex_);
  return std::find(before_.begin(), before_.end(), stream) != before_.end();
}

}  // namespace dtensor::local::cuda
