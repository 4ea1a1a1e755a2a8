// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/rank_device.h"

#include <map>
#include <mutex>

#include "base/error_text.h"
#include "base/rank.h"

namespace dtensor::local::cuda {
namespace {

struct RankDevices {
  std::mutex mutex;
  std::map<int, RankDevice> by_index;
};

RankDevices& devices_of_rank() {
  if (base::RankContext* context = base::current_rank()) return base::rank_state<RankDevices>(*context);
  static RankDevices* const shared = new RankDevices;
  return *shared;
}

void check_exists(Device device) {
  const int count = device_count();
  if (device.index >= 0 && device.index < count) return;
  if (count == 0) base::fail<DeviceError>("cuda: {} cannot be used ({}); use Device::cpu()", to_string(device), why_none());
  base::fail<DeviceError>("cuda: there is no {} (devices 0 to {}); choose one of these", to_string(device), count - 1);
}

}  // namespace

RankDevice::RankDevice(Device d) : device(d), allocator(std::make_shared<DeviceAllocator>(d)) { current = own = make_stream(d.index); }
RankDevice::~RankDevice() { free_stream(own); }

RankDevice& rank_device(Device device) {
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

}  // namespace dtensor::local::cuda
