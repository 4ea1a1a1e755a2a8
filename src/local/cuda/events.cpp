// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/events.h"

#include <algorithm>
#include <map>

namespace dtensor::local::cuda {
namespace {

struct Pool {
  std::mutex mutex;
  std::map<int, std::vector<Event>> by_device;
};
// Never destroyed: memory of static objects comes back after it.
Pool& pool() {
  static Pool* const p = new Pool;
  return *p;
}

Event take(int device) {
  Pool& p = pool();
  {
    const std::lock_guard lock(p.mutex);
    auto& free = p.by_device[device];
    if (!free.empty()) {
      const Event event = free.back();
      free.pop_back();
      return event;
    }
  }
  return make_event(device);
}

void give(int device, Event event) noexcept {
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  p.by_device[device].push_back(event);
}

}  // namespace

PooledEvent::PooledEvent(Device device, Stream stream) : device_(device.index), event_(take(device.index)) {
  try {
    record(event_, stream);
  } catch (...) {
    give(device_, event_);
    throw;
  }
}

PooledEvent::~PooledEvent() { give(device_, event_); }

bool PooledEvent::done() noexcept {
  try {
    return is_done(event_);
  } catch (...) { return true; }  // the device has failed: nothing of it runs any more, and the next call says so
}

void PooledEvent::order(Stream stream) {
  const std::lock_guard lock(mutex_);
  if (std::find(before_.begin(), before_.end(), stream) != before_.end()) return;
  order_after(stream, event_);
  before_.push_back(stream);
}

bool PooledEvent::ordered(Stream stream) const {
  const std::lock_guard lock(mutex_);
  return std::find(before_.begin(), before_.end(), stream) != before_.end();
}

}  // namespace dtensor::local::cuda
