// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/events.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>
#include <vector>

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
  static Pool* const p = new Pool(make_stream, is_idle);
  return *p;
}

}  // namespace

OwnedStream::OwnedStream(Device device) : DeviceStream(device, streams().take(device.index)) {}
OwnedStream::~OwnedStream() { streams().give(device().index, native()); }

PooledEvent::PooledEvent(Device device, Stream stream) : device_(device.index), event_(events().take(device.index)) {
  try {
    record(event_, stream);
  } catch (...) {
    events().give(device_, event_);
    throw;
  }
}

PooledEvent::~PooledEvent() { events().give(device_, event_); }

bool PooledEvent::done() noexcept {
  try {
    return is_done(event_);
  } catch (...) { return true; }  // the device has failed: nothing of it runs any more, and the next call says so
}

void PooledEvent::order(Stream stream) {
  const std::uint64_t id = stream_id(stream);
  const std::lock_guard lock(mutex_);
  if (std::find(before_.begin(), before_.end(), id) != before_.end()) return;
  order_after(stream, event_);
  before_.push_back(id);
}

bool PooledEvent::ordered(std::uint64_t stream) const {
  const std::lock_guard lock(mutex_);
  return std::find(before_.begin(), before_.end(), stream) != before_.end();
}

}  // namespace dtensor::local::cuda
