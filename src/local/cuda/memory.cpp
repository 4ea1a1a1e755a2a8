// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/memory.h"

#include <algorithm>
#include <utility>

#include "base/error_text.h"
#include "local/allocator.h"

namespace dtensor::local::cuda {
namespace {

constexpr std::int64_t kSlack = 64 << 20;

std::size_t class_of(std::size_t bytes) noexcept { return CachingAllocator::size_class(bytes); }
std::int64_t held_by(std::size_t size_class) noexcept { return static_cast<std::int64_t>(CachingAllocator::class_bytes(size_class)); }

}  // namespace

DeviceBuffer::DeviceBuffer(void* data, std::size_t bytes, Device device, std::size_t size_class, Stream stream,
                           std::shared_ptr<DeviceAllocator> home) noexcept
    : Buffer(data, bytes, device, nullptr, false), size_class_(size_class), stream_(stream), home_(std::move(home)) {}

DeviceBuffer::~DeviceBuffer() { home_->give(data(), bytes(), size_class_, stream_, users_); }

void DeviceBuffer::used_on(Stream stream) {
  if (stream != stream_ && std::find(users_.begin(), users_.end(), stream) == users_.end()) users_.push_back(stream);
}

DeviceAllocator::~DeviceAllocator() {
  collect(true);
  release_kept();
}

base::Ref<Buffer> DeviceAllocator::allocate(std::size_t bytes, Stream stream) {
  const std::size_t size_class = class_of(bytes);
  void* memory = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto asked = static_cast<std::int64_t>(bytes);
    if (cap_ != 0 && stats_.current + asked > cap_)
      base::fail<DeviceError>(
          "allocate: beyond the memory cap of this rank (asked {} bytes, in use {}, cap {}); raise set_memory_cap, shard over more ranks, or free "
          "tensors",
          bytes, stats_.current, cap_);
    if (bytes != 0) {
      collect(false);
      memory = take(size_class, stream);
      if (memory == nullptr) memory = create(bytes, size_class);
    }
    stats_.current += asked;
    stats_.peak = std::max(stats_.peak, stats_.current);
    most_ = std::max(most_, stats_.current);
    ++stats_.allocations;
  }
  return base::Ref<Buffer>(new DeviceBuffer(memory, bytes, device_, size_class, stream, shared_from_this()));
}

void* DeviceAllocator::take(std::size_t size_class, Stream stream) {
  const auto at = kept_.find(size_class);
  if (at == kept_.end()) return nullptr;
  auto& list = at->second;
  const auto found = std::find_if(list.rbegin(), list.rend(), [&](const Kept& k) { return k.stream == stream; });
  if (found == list.rend()) return nullptr;
  void* memory = found->memory;
  list.erase(std::next(found).base());
  stats_.cached -= held_by(size_class);
  return memory;
}

void* DeviceAllocator::create(std::size_t bytes, std::size_t size_class) {
  if (stats_.current + stats_.cached > most_ + most_ / 4 + kSlack) release_kept();
  const std::size_t size = CachingAllocator::class_bytes(size_class);
  void* memory = device_malloc(device_.index, size);
  if (memory == nullptr) {
    collect(true);
    release_kept();
    memory = device_malloc(device_.index, size);
  }
  if (memory == nullptr) fail_memory(bytes);
  return memory;
}

void DeviceAllocator::fail_memory(std::size_t bytes) {
  const MemoryInfo all = device_memory(device_.index);
  base::fail<DeviceError>(
      "allocate: {} has no more memory (asked {} bytes, in use by this rank {}, free on the device {} of {}); shard over more ranks, use smaller "
      "batches or checkpoint(), or free tensors",
      to_string(device_), bytes, stats_.current, all.free, all.total);
}

void DeviceAllocator::give(void* memory, std::size_t bytes, std::size_t size_class, Stream stream, const std::vector<Stream>& users) noexcept {
  const std::lock_guard lock(mutex_);
  stats_.current -= static_cast<std::int64_t>(bytes);
  if (memory == nullptr) return;
  if (users.empty()) return keep(memory, size_class, stream);
  Busy busy{memory, size_class, stream, {}};
  for (Stream user : users) {
    busy.until.push_back(make_event(device_.index));
    record(busy.until.back(), user);
  }
  busy_.push_back(std::move(busy));
}

void DeviceAllocator::keep(void* memory, std::size_t size_class, Stream stream) {
  kept_[size_class].push_back({memory, stream});
  stats_.cached += held_by(size_class);
}

// Blocks whose other streams are done.
void DeviceAllocator::collect(bool wait) {
  std::erase_if(busy_, [&](const Busy& b) {
    if (wait)
      for (Event e : b.until) host_waits(e);
    if (!std::all_of(b.until.begin(), b.until.end(), is_done)) return false;
    for (Event e : b.until) free_event(e);
    keep(b.memory, b.size_class, b.stream);
    return true;
  });
}

void DeviceAllocator::release_kept() {
  for (const auto& [size_class, list] : kept_)
    for (const Kept& k : list) device_free(device_.index, k.memory);
  kept_.clear();
  stats_.cached = 0;
}

MemoryStats DeviceAllocator::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}
void DeviceAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak = stats_.current;
}
void DeviceAllocator::empty_cache() {
  const std::lock_guard lock(mutex_);
  collect(true);
  release_kept();
}
void DeviceAllocator::set_cap(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  cap_ = bytes;
}

}  // namespace dtensor::local::cuda
