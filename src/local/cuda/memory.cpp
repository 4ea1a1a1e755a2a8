// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/memory.h"

#include <algorithm>
#include <exception>
#include <iterator>
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

DeviceBuffer::DeviceBuffer(void* data, std::size_t bytes, Device device, std::size_t size_class, BlockStream stream,
                           std::shared_ptr<DeviceAllocator> home) noexcept
    : Buffer(data, bytes, device, nullptr, false), size_class_(size_class), stream_(stream), home_(std::move(home)) {}

DeviceBuffer::~DeviceBuffer() { home_->give(data(), bytes(), size_class_, stream_, users_); }

bool DeviceBuffer::pinned() const noexcept { return home_->pinned(); }

void DeviceBuffer::used_until(const DeviceEventRef& event) {
  const std::lock_guard lock(mutex_);
  std::erase_if(users_.events, [&](const auto& e) { return (!pinned() && e->ordered(stream_.id)) || e->done(); });
  users_.events.push_back(std::static_pointer_cast<PooledEvent>(event));
}

void DeviceBuffer::used_on(const DeviceStreamRef& stream) {
  const std::lock_guard lock(mutex_);
  const auto same = [&](const DeviceStreamRef& s) { return s->native() == stream->native(); };
  if (stream_id(stream->native()) != stream_.id && std::none_of(users_.streams.begin(), users_.streams.end(), same)) users_.streams.push_back(stream);
}

DeviceAllocator::DeviceAllocator(Device device, std::shared_ptr<DeviceAllocator> other) : device_(device), pinned_(false), other_(std::move(other)) {
  const std::lock_guard lock(other_->mutex_);
  if (other_->cap_ != 0) cap_ = std::max<std::int64_t>(1, other_->cap_ - other_->stats_.current);
}

DeviceAllocator::~DeviceAllocator() {
  try {
    collect(true);
  } catch (const DeviceError&) {}  // a failed kernel has been said where it was found
  release_kept();
}

base::Ref<Buffer> DeviceAllocator::allocate(std::size_t bytes, Stream stream) {
  const auto asked = static_cast<std::int64_t>(bytes);
  const std::size_t size_class = class_of(bytes);
  const BlockStream of{stream, pinned_ ? 0 : stream_id(stream)};
  reserve(asked);
  void* memory = nullptr;
  try {
    if (bytes != 0) memory = obtain(bytes, size_class, of.id);
  } catch (...) {
    const std::lock_guard lock(mutex_);
    stats_.current -= asked;
    throw;
  }
  if (memory != nullptr && !pinned_) mark_used(memory, bytes, CachingAllocator::class_bytes(size_class), stream);
  {
    const std::lock_guard lock(mutex_);
    stats_.peak = std::max(stats_.peak, stats_.current);
    most_ = std::max(most_, stats_.current);
    ++stats_.allocations;
  }
  return base::Ref<Buffer>(new DeviceBuffer(memory, bytes, pinned_ ? Device::cpu() : device_, size_class, of, shared_from_this()));
}

// The cap holds for requests that other threads make meanwhile.
void DeviceAllocator::reserve(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (cap_ != 0 && stats_.current + bytes > cap_)
    base::fail<DeviceError>(
        "allocate: beyond the memory cap of this rank (asked {} bytes, in use {}, cap {}); raise set_memory_cap, shard over more ranks, or free "
        "tensors",
        bytes, stats_.current, cap_);
  stats_.current += bytes;
}

void* DeviceAllocator::obtain(std::size_t bytes, std::size_t size_class, std::uint64_t stream) {
  collect(false);
  if (void* memory = take(size_class, stream)) return memory;
  return create(bytes, size_class);
}

void* DeviceAllocator::take(std::size_t size_class, std::uint64_t stream) {
  const std::lock_guard lock(mutex_);
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
  const bool crowded = [&] {
    const std::lock_guard lock(mutex_);
    const std::int64_t used = stats_.current - static_cast<std::int64_t>(bytes);
    return used + stats_.cached > most_ + most_ / 4 + kSlack;
  }();
  if (crowded && other_ == nullptr) release_kept();
  const std::size_t size = CachingAllocator::class_bytes(size_class);
  if (pinned_) return pinned_malloc(-1, size);
  void* memory = device_malloc(device_.index, size);
  if (memory == nullptr) {
    if (other_ != nullptr) other_->empty_cache();
    else empty_cache();
    memory = device_malloc(device_.index, size);
  }
  if (memory == nullptr) fail_memory(bytes);
  const std::lock_guard lock(mutex_);
  taken_ += static_cast<std::int64_t>(size);
  return memory;
}

void DeviceAllocator::fail_memory(std::size_t bytes) const {
  const MemoryInfo all = device_memory(device_.index);
  base::fail<DeviceError>(
      "allocate: {} has no more memory (asked {} bytes, in use by this rank {}, free on the device {} of {}); shard over more ranks, use smaller "
      "batches or checkpoint(), or free tensors",
      to_string(device_), bytes, stats().current - static_cast<std::int64_t>(bytes), all.free, all.total);
}

void DeviceAllocator::give(void* memory, std::size_t bytes, std::size_t size_class, const BlockStream& stream, BlockUsers& users) noexcept {
  // What comes after an event on the block's own stream needs no more order.
  std::erase_if(users.events, [&](const auto& e) { return (!pinned_ && e->ordered(stream.id)) || e->done(); });
  try {
    for (const DeviceStreamRef& user : users.streams) users.events.push_back(std::make_shared<PooledEvent>(user->device(), user->native()));
  } catch (const Error&) { users.events.clear(); }  // the device has failed: nothing uses the memory any more
  const std::lock_guard lock(mutex_);
  stats_.current -= static_cast<std::int64_t>(bytes);
  if (memory == nullptr) return;
  if (holds_) {
    held_.push_back({memory, size_class, stream.id, std::move(users.events)});
    return;
  }
  if (users.events.empty()) return keep(memory, size_class, stream.id);
  busy_.push_back({memory, size_class, stream.id, std::move(users.events)});
}

// The mutex is held.
void DeviceAllocator::keep(void* memory, std::size_t size_class, std::uint64_t stream) {
  kept_[size_class].push_back({memory, stream});
  stats_.cached += held_by(size_class);
}

// Blocks whose other users are done. Only the calling thread sees the others meanwhile.
void DeviceAllocator::collect(bool wait) {
  std::vector<Busy> busy;
  {
    const std::lock_guard lock(mutex_);
    busy.swap(busy_);
  }
  if (busy.empty()) return;
  std::exception_ptr failure;
  if (wait) try {
      for (const Busy& b : busy)
        for (const auto& e : b.until) e->host_waits();
    } catch (const DeviceError&) { failure = std::current_exception(); }
  const auto is_busy = [](const Busy& b) { return !std::all_of(b.until.begin(), b.until.end(), [](const auto& e) { return e->done(); }); };
  const auto done = std::partition(busy.begin(), busy.end(), is_busy);
  {
    const std::lock_guard lock(mutex_);
    for (auto b = done; b != busy.end(); ++b) keep(b->memory, b->size_class, b->stream);
    busy_.insert(busy_.end(), std::make_move_iterator(busy.begin()), std::make_move_iterator(done));
  }
  if (failure) std::rethrow_exception(failure);
}

void DeviceAllocator::release(void* memory) noexcept {
  if (pinned_) pinned_free(memory);
  else device_free(device_.index, memory);
}

void DeviceAllocator::release_kept() {
  KeptBlocks kept;
  {
    const std::lock_guard lock(mutex_);
    kept.swap(kept_);
    stats_.cached = 0;
  }
  for (const auto& [size_class, list] : kept)
    for (const Kept& k : list) release(k.memory);
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
  if (other_ != nullptr) return;
  collect(true);
  release_kept();
}
std::int64_t DeviceAllocator::taken() const {
  const std::lock_guard lock(mutex_);
  return taken_;
}
void DeviceAllocator::hold() {
  const std::lock_guard lock(mutex_);
  holds_ = true;
}
std::shared_ptr<void> DeviceAllocator::held() {
  auto blocks = std::make_unique<std::vector<Busy>>();
  const std::lock_guard lock(mutex_);
  holds_ = false;
  blocks->swap(held_);
  return {blocks.release(), [home = shared_from_this()](std::vector<Busy>* b) {
            const std::unique_ptr<std::vector<Busy>> owned(b);
            const std::lock_guard free_lock(home->mutex_);
            home->busy_.insert(home->busy_.end(), std::make_move_iterator(b->begin()), std::make_move_iterator(b->end()));
          }};
}
void DeviceAllocator::set_cap(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  cap_ = bytes;
}

}  // namespace dtensor::local::cuda
