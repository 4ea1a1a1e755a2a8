// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/rank_device.h"

#include <cstring>
#include <map>
#include <mutex>

#include "base/error_text.h"
#include "base/rank.h"

namespace dtensor::local::cuda {
namespace {

constexpr std::size_t kStagingBytes = 64 << 10;

struct RankDevices {
  std::mutex mutex;
  std::map<int, RankDevice> by_index;
};

RankDevices& devices_of_rank() {
  if (base::RankContext* context = base::current_rank()) return base::rank_state<RankDevices>(*context);
  static RankDevices* const shared = new RankDevices;
  return *shared;
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
RankDevice::~RankDevice() { host_waits_for_stream(own->native()); }

void upload(RankDevice& device, void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  if (bytes > device.staging.arc_bytes()) return copy(to, from, bytes, CopyKind::to_device, device.current);
  void* const staged = device.staging.take(bytes, device.current);
  std::memcpy(staged, from, bytes);
  copy(to, staged, bytes, CopyKind::pinned_to_device, device.current);
}

RankDevice& unchecked_rank_device(Device device) {
  RankDevices& all = devices_of_rank();
  const std::lock_guard lock(all.mutex);
  auto at = all.by_index.find(device.index);
  if (at == all.by_index.end()) {
    check_exists(device);
    at = all.by_index.try_emplace(device.index, device).first;
  }
  use_device(device.index);
  return at->second;
}

RankDevice& rank_device(Device device) {
  RankDevice& d = unchecked_rank_device(device);
  d.faults.check();
  return d;
}

}  // namespace dtensor::local::cuda
