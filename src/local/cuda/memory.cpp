// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/memory.h"

#include <algorithm>
#include <utility>

#include "base/error_text.h"
#include "dtensor/error.h"
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

bool DeviceBuffer::pinned() const noexcept { return home_->pinned(); }

void DeviceBuffer::used_until(const DeviceEventRef& event) {
  const std::lock_guard lock(mutex_);
  std::erase_if(users_.events, [&](const auto& e) { return (!pinned() && e->ordered(stream_)) || e->done(); });
  users_.events.push_back(std::static_pointer_cast<PooledEvent>(event));
}

void DeviceBuffer::used_on(const DeviceStreamRef& stream) {
  const std::lock_guard lock(mutex_);
  const auto same = [&](const DeviceStreamRef& s) { return s->native() == stream->native(); };
  if (stream->native() != stream_ && std::none_of(users_.streams.begin(), users_.streams.end(), same)) users_.streams.push_back(stream);
}

DeviceAllocator::~DeviceAllocator() {
  try {
    collect(true);
  } catch (const DeviceError&) {}  // a failed kernel has been said where it was found
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
      if (!pinned_) mark_used(memory, bytes, CachingAllocator::class_bytes(size_class), stream);
    }
    stats_.current += asked;
    stats_.peak = std::max(stats_.peak, stats_.current);
    most_ = std::max(most_, stats_.current);
    ++stats_.allocations;
  }
  return base::Ref<Buffer>(new DeviceBuffer(memory, bytes, pinned_ ? Device::cpu() : device_, size_class, stream, shared_from_this()));
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
  if (pinned_) return pinned_malloc(-1, size);
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

void DeviceAllocator::give(void* memory, std::size_t bytes, std::size_t size_class, Stream stream, BlockUsers& users) noexcept {
  const std::lock_guard lock(mutex_);
  stats_.current -= static_cast<std::int64_t>(bytes);
  if (memory == nullptr) return;
  // What comes after an event on the block's own stream needs no more order.
  std::erase_if(users.events, [&](const auto& e) { return (!pinned_ && e->ordered(stream)) || e->done(); });
  try {
    for (const DeviceStreamRef& user : users.streams) users.events.push_back(std::make_shared<PooledEvent>(user->device(), user->native()));
  } catch (const Error&) { users.events.clear(); }  // the device has failed: nothing uses the memory any more
  if (users.events.empty()) return keep(memory, size_class, stream);
  busy_.push_back({memory, size_class, stream, std::move(users.events)});
}

void DeviceAllocator::keep(void* memory, std::size_t size_class, Stream stream) {
  kept_[size_class].push_back({memory, stream});
  stats_.cached += held_by(size_class);
}

// Blocks whose other users are done.
void DeviceAllocator::collect(bool wait) {
  std::erase_if(busy_, [&](const Busy& b) {
    if (wait)
      for (const auto& e : b.until) e->host_waits();
    if (!std::all_of(b.until.begin(), b.until.end(), [](const auto& e) { return e->done(); })) return false;
    keep(b.memory, b.size_class, b.stream);
    return true;
  });
}

void DeviceAllocator::release(void* memory) noexcept {
  if (pinned_) pinned_free(memory);
  else device_free(device_.index, memory);
}

void DeviceAllocator::release_kept() {
  for (const auto& [size_class, list] : kept_)
    for (const Kept& k : list) release(k.memory);
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
