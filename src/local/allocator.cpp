// SPDX-License-Identifier: Apache-2.0
#include "local/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>
#include <thread>

#include "base/error_text.h"
#include "base/rank.h"
#include "local/device.h"

namespace dtensor::local {

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeepBlocks = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kKeepBlocks = false;
#else
constexpr bool kKeepBlocks = true;
#endif
#else
constexpr bool kKeepBlocks = true;
#endif

constexpr std::size_t kSteps = 8;  // size classes per doubling
constexpr std::size_t kLinear = 512;
constexpr std::size_t kClasses = kSteps + kSteps * 40;
constexpr std::int64_t kSlack = std::int64_t{64} << 20;

struct AllocatorOwner {
  CachingAllocator* allocator = new CachingAllocator;
  AllocatorOwner() = default;
  AllocatorOwner(const AllocatorOwner&) = delete;
  ~AllocatorOwner() { allocator->abandon(); }
};

}  // namespace

/// Stands in front of the Buffer object, which stands in front of the data.
struct CachingAllocator::Block {
  CachingAllocator* owner;
  Block* next;
  std::size_t size_class;
  std::size_t bytes;  // asked for
};

class CachingAllocator::CachedBuffer final : public Buffer {
 public:
  CachedBuffer(void* data, std::size_t bytes) noexcept : Buffer(data, bytes, Device::cpu(), nullptr, false) {}
  static void* operator new(std::size_t, void* place) noexcept { return place; }
  static void operator delete(void*, void*) noexcept {}
  static void operator delete(void* object) noexcept {
    Block* block = static_cast<Block*>(object) - 1;
    block->owner->give(block);
  }
  static constexpr std::size_t data_offset() noexcept { return (sizeof(Block) + sizeof(CachedBuffer) + kAlignment - 1) / kAlignment * kAlignment; }
};

// A few instructions are ever done under it; a waiter gives its core away.
class CachingAllocator::Lock {
 public:
  explicit Lock(CachingAllocator& allocator) noexcept : locked_(allocator.locked_) {
    while (locked_.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
  }
  Lock(const Lock&) = delete;
  ~Lock() { locked_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool>& locked_;
};

CachingAllocator::CachingAllocator() : free_(kClasses, nullptr) {}

std::size_t CachingAllocator::size_class(std::size_t bytes) noexcept {
  if (bytes <= kLinear) return bytes == 0 ? 0 : (bytes - 1) / kAlignment;
  // bytes in (2^p, 2^(p+1)] is cut into eight steps.
  const auto p = static_cast<std::size_t>(std::bit_width(bytes - 1)) - 1;
  return kSteps + (p - 9) * kSteps + (((bytes - 1) >> (p - 3)) & (kSteps - 1));
}

std::size_t CachingAllocator::class_bytes(std::size_t size_class) noexcept {
  if (size_class < kSteps) return (size_class + 1) * kAlignment;
  const std::size_t p = (size_class - kSteps) / kSteps + 9, step = (size_class - kSteps) % kSteps;
  return (std::size_t{1} << p) + ((step + 1) << (p - 3));
}

base::Ref<Buffer> CachingAllocator::allocate(std::size_t bytes) {
  if (bytes > (std::size_t{1} << 47)) base::fail<DeviceError>("allocate: no machine has this much memory (asked {} bytes); check the shape", bytes);
  Block* block = take(bytes, size_class(bytes));
  block->bytes = bytes;
  auto* data = reinterpret_cast<std::byte*>(block) + CachedBuffer::data_offset();
  return base::Ref<Buffer>(new (block + 1) CachedBuffer(data, bytes));
}

CachingAllocator::Block* CachingAllocator::take(std::size_t bytes, std::size_t size_class) {
  MemoryStats figures;
  std::int64_t cap = 0;
  {
    const Lock lock(*this);
    const auto asked = static_cast<std::int64_t>(bytes);
    if (cap_ == 0 || stats_.current + asked <= cap_) {
      stats_.current += asked;
      stats_.peak = std::max(stats_.peak, stats_.current);
      most_ = std::max(most_, stats_.current);
      ++stats_.allocations;
      ++blocks_out_;
      Block*& first = free_[size_class];
      if (Block* block = first; block != nullptr) {
        first = block->next;
        stats_.cached -= static_cast<std::int64_t>(class_bytes(size_class));
        return block;
      }
    } else {
      figures = stats_;
      cap = cap_;
    }
  }
  if (cap != 0) fail_cap(bytes, figures, cap);
  return create(bytes, size_class);
}

// Of a large block all whole ones: the address translation of 4 KiB pages costs a copy of 64 MiB a tenth and more, and every first touch of a page a fault.
static void ask_for_huge_pages(void* memory, std::size_t bytes) noexcept {
#if defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t kPage = 2 << 20;
  const auto begin = reinterpret_cast<std::uintptr_t>(memory), first = (begin + kPage - 1) / kPage * kPage, last = (begin + bytes) / kPage * kPage;
  if (last > first) madvise(static_cast<std::byte*>(memory) + (first - begin), last - first, MADV_HUGEPAGE);
#endif
}

CachingAllocator::Block* CachingAllocator::create(std::size_t bytes, std::size_t size_class) {
  const std::size_t size = class_bytes(size_class);
  Block* surplus = nullptr;
  {
    const Lock lock(*this);
    if (stats_.current + stats_.cached > most_ + most_ / 4 + kSlack) surplus = detach_cache();
  }
  free_list(surplus);
  void* memory = std::aligned_alloc(kAlignment, CachedBuffer::data_offset() + size);
  if (memory == nullptr) {
    empty_cache();
    memory = std::aligned_alloc(kAlignment, CachedBuffer::data_offset() + size);
  }
  if (memory != nullptr) {
    ask_for_huge_pages(memory, CachedBuffer::data_offset() + size);
    return new (memory) Block{this, nullptr, size_class, bytes};
  }
  std::int64_t in_use = 0;
  {
    const Lock lock(*this);
    stats_.current -= static_cast<std::int64_t>(bytes);
    --stats_.allocations;
    --blocks_out_;
    in_use = stats_.current;
  }
  base::fail<DeviceError>(
      "allocate: the machine has no more memory (asked {} bytes, in use by this rank {}); shard over more ranks, use smaller batches, or free "
      "tensors",
      bytes, in_use);
}

void CachingAllocator::fail_cap(std::size_t bytes, const MemoryStats& figures, std::int64_t cap) {
  base::fail<DeviceError>(
      "allocate: beyond the memory cap of this rank (asked {} bytes, in use {}, cap {}); raise set_memory_cap, shard over more ranks, or free "
      "tensors",
      bytes, figures.current, cap);
}

void CachingAllocator::give(Block* block) noexcept {
  bool last = false, keep = false;
  {
    const Lock lock(*this);
    stats_.current -= static_cast<std::int64_t>(block->bytes);
    --blocks_out_;
    keep = kKeepBlocks && !abandoned_;
    if (keep) {
      Block*& first = free_[block->size_class];
      block->next = first;
      first = block;
      stats_.cached += static_cast<std::int64_t>(class_bytes(block->size_class));
    }
    last = abandoned_ && blocks_out_ == 0;
  }
  if (!keep) std::free(block);
  if (last) delete this;
}

CachingAllocator::Block* CachingAllocator::detach_cache() noexcept {
  Block* all = nullptr;
  for (Block*& first : free_) {
    while (first != nullptr) {
      Block* block = first;
      first = block->next;
      block->next = all;
      all = block;
    }
  }
  stats_.cached = 0;
  return all;
}

void CachingAllocator::free_list(Block* blocks) noexcept {
  while (blocks != nullptr) std::free(std::exchange(blocks, blocks->next));
}

MemoryStats CachingAllocator::stats() {
  const Lock lock(*this);
  return stats_;
}

void CachingAllocator::reset_peak() {
  const Lock lock(*this);
  stats_.peak = stats_.current;
}

void CachingAllocator::empty_cache() {
  Block* all = nullptr;
  {
    const Lock lock(*this);
    all = detach_cache();
  }
  free_list(all);
}

void CachingAllocator::set_cap(std::int64_t bytes) {
  const Lock lock(*this);
  cap_ = bytes;
}

void CachingAllocator::abandon() {
  Block* all = nullptr;
  bool last = false;
  {
    const Lock lock(*this);
    abandoned_ = true;
    all = detach_cache();
    last = blocks_out_ == 0;
  }
  free_list(all);
  if (last) delete this;
}

CachingAllocator& current_allocator() {
  if (base::RankContext* context = base::current_rank()) return *base::rank_state<AllocatorOwner>(*context).allocator;
  static CachingAllocator* const shared = new CachingAllocator;
  return *shared;
}

base::Ref<Buffer> allocate(std::size_t bytes, Device device) {
  if (device.kind == DeviceKind::cpu) return current_allocator().allocate(bytes);
  if (device.kind == DeviceKind::meta) return base::make_ref<Buffer>(nullptr, bytes, device, nullptr, false);
  return require_cuda(device, "allocate").allocate(bytes, device);
}

bool is_recording(Device device) noexcept {
  DeviceBackend* backend = device.kind == DeviceKind::cuda ? cuda_backend() : nullptr;
  return backend != nullptr && backend->is_recording(device);
}

DeviceBackend& require_cuda(Device device, const char* op) {
  if (DeviceBackend* backend = cuda_backend()) return *backend;
  base::fail<Unsupported>("{}: this build has no memory on {}; use Device::cpu(), or build with DTENSOR_CUDA", op, to_string(device));
}

}  // namespace dtensor::local

namespace dtensor {

// Calls f with the allocator of the CPU, or g with the backend of another device. On meta there is nothing.
namespace {
template <class F, class G>
auto of_device(Device device, const char* op, F f, G g) {
  using Result = decltype(f(local::current_allocator()));
  if (device.kind == DeviceKind::cpu) return f(local::current_allocator());
  if (device.kind == DeviceKind::cuda) return g(local::require_cuda(device, op));
  return Result();
}
}  // namespace

CudaInfo cuda_info() {
  if (local::DeviceBackend* backend = local::cuda_backend()) return backend->info();
  return {.built = false, .driver = 0, .runtime = 0, .why_none = "this build has no CUDA", .devices = {}};
}

MemoryStats memory_stats(Device device) {
  return of_device(
      device, "memory_stats", [](auto& a) { return a.stats(); }, [&](auto& b) { return b.stats(device); });
}

void reset_peak_memory(Device device) {
  of_device(
      device, "reset_peak_memory", [](auto& a) { a.reset_peak(); }, [&](auto& b) { b.reset_peak(device); });
}

void empty_cache(Device device) {
  of_device(
      device, "empty_cache", [](auto& a) { a.empty_cache(); }, [&](auto& b) { b.empty_cache(device); });
}

void set_memory_cap(std::int64_t bytes, Device device) {
  if (bytes < 0) base::fail<InvalidArgument>("set_memory_cap: a cap is not negative (got {}); 0 means no cap", bytes);
  of_device(
      device, "set_memory_cap", [&](auto& a) { a.set_cap(bytes); }, [&](auto& b) { b.set_cap(bytes, device); });
}

}  // namespace dtensor
