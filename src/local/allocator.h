// SPDX-License-Identifier: Apache-2.0
// The caching allocator of one rank. A block carries its Buffer object in front of the data, so that an allocation is one pop from a list.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/ref.h"
#include "dtensor/tensor.h"
#include "local/storage.h"

namespace dtensor::local {

/// Thread-safe: blocks come back from any thread. Lives until its owner has let go of it and the last block is back.
/// Kept blocks never make the memory held exceed 1.25 times the highest use plus 64 MiB. Under the address sanitizer nothing is kept.
class CachingAllocator {
 public:
  static constexpr std::size_t kAlignment = 64;

  CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  /// @throws DeviceError.
  base::Ref<Buffer> allocate(std::size_t bytes);
  MemoryStats stats();
  void reset_peak();
  void empty_cache();
  void set_cap(std::int64_t bytes);
  /// The owner is gone: kept blocks are freed, the allocator with the last block in use.
  void abandon();

  /// Size class of a request: 64-byte steps up to 512 bytes, then eight per doubling.
  static std::size_t size_class(std::size_t bytes) noexcept;
  /// Bytes of a block of that class, at least the request.
  static std::size_t class_bytes(std::size_t size_class) noexcept;

 private:
  struct Block;
  class CachedBuffer;
  class Lock;
  ~CachingAllocator() = default;
  Block* take(std::size_t bytes, std::size_t size_class);
  Block* create(std::size_t bytes, std::size_t size_class);
  void give(Block* block) noexcept;
  Block* detach_cache() noexcept;
  static void free_list(Block* blocks) noexcept;
  [[noreturn]] void fail_cap(std::size_t bytes, const MemoryStats& figures, std::int64_t cap);

  std::atomic<bool> locked_{false};
  std::vector<Block*> free_;  // by size class
  MemoryStats stats_;
  std::int64_t most_ = 0;  // highest use ever
  std::int64_t cap_ = 0;
  std::int64_t blocks_out_ = 0;
  bool abandoned_ = false;
};

/// That of the calling thread's rank; threads that are no rank share one.
CachingAllocator& current_allocator();

}  // namespace dtensor::local
