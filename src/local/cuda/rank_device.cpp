// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/rank_device.h"

#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "base/error_text.h"
#include "base/rank.h"
#include "local/cuda/recording.h"

namespace dtensor::local::cuda {
namespace {

constexpr std::size_t kStagingBytes = 64 << 10;

struct RankDevices {
  std::vector<std::unique_ptr<RankDevice>> by_index;
  RankDevice& at(Device device) {
    const std::size_t i = static_cast<std::uint8_t>(device.index);
    if (i < by_index.size() && by_index[i] != nullptr) return *by_index[i];
    check_exists(device);
    if (by_index.size() <= i) by_index.resize(i + 1);
    by_index[i] = std::make_unique<RankDevice>(device);
    return *by_index[i];
  }
};

RankDevice& find_rank_device(Device device) {
  if (base::RankContext* context = base::current_rank()) return base::rank_state<RankDevices>(*context).at(device);
  static std::mutex mutex;
  static RankDevices* const shared = new RankDevices;
  const std::lock_guard lock(mutex);
  return shared->at(device);
}

}  // namespace

void check_exists(Device device) {
  const int count = device_count();
  if (device.index >= 0 && device.index < count) return;
  if (count == 0) base::fail<DeviceError>("cuda: {} cannot be used ({}); use Device::cpu()", to_string(device), why_none());
  base::fail<DeviceError>("cuda: there is no {} (devices 0 to {}); choose one of these", to_string(device), count - 1);
}

RankDevice::RankDevice(Device d)
    : device(d),
      own(std::make_shared<OwnedStream>(d)),
      current_stream(own),
      current(own->native()),
      allocator(std::make_shared<DeviceAllocator>(d)),
      staging(d.index, kStagingBytes),
      faults(d.index) {}
RankDevice::~RankDevice() {
  try {
    host_waits_for_stream(own->native());
  } catch (const DeviceError&) {}  // said where it was found, or to nobody: there is no call left
}

void upload(RankDevice& device, void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  if (device.recording != nullptr) {
    void* const staged = device.recording->staging().take(bytes);
    std::memcpy(staged, from, bytes);
    return copy(to, staged, bytes, CopyKind::pinned_to_device, device.current);
  }
  if (bytes > device.staging.arc_bytes()) return copy(to, from, bytes, CopyKind::to_device, device.current);
  void* const staged = device.staging.take(bytes, device.current);
  std::memcpy(staged, from, bytes);
  copy(to, staged, bytes, CopyKind::pinned_to_device, device.current);
}

bool end_recordings() noexcept {
  base::RankContext* const context = base::current_rank();
  if (context == nullptr) return false;
  bool hangs = false;
  for (const auto& d : base::rank_state<RankDevices>(*context).by_index) {
    if (d == nullptr) continue;
    for (Recording* r : d->graphs) r->end();
    hangs = hangs || d->hangs;
  }
  return hangs;
}

RankDevice& unchecked_rank_device(Device device) {
  RankDevice& d = find_rank_device(device);
  use_device(device.index);
  return d;
}

RankDevice& rank_device(Device device) {
  RankDevice& d = unchecked_rank_device(device);
  d.faults.check();
  return d;
}

}  // namespace dtensor::local::cuda
