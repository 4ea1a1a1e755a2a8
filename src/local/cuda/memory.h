// SPDX-License-Identifier: Apache-2.0
// Memory of a device as one rank uses it: a caching allocator whose blocks are ordered by streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/ref.h"
#include "dtensor/tensor.h"
#include "local/cuda/driver.h"
#include "local/cuda/events.h"
#include "local/storage.h"

namespace dtensor::local::cuda {

class DeviceAllocator;

/// The stream for which a block was made. A handle of a stream that is gone may be given to a new one, its number never is.
struct BlockStream {
  Stream native = nullptr;
  std::uint64_t id = 0;
};

/// What work other than that of a block's own stream uses it.
struct BlockUsers {
  std::vector<DeviceStreamRef> streams;  ///< all that is queued on them when the block is let go
  std::vector<std::shared_ptr<PooledEvent>> events;
};

/// A piece of memory. It may be reused by work queued on the stream it was made for as soon as it is let go; other users say so.
class DeviceBuffer final : public Buffer {
 public:
  DeviceBuffer(void* data, std::size_t bytes, Device device, std::size_t size_class, BlockStream stream,
               std::shared_ptr<DeviceAllocator> home) noexcept;
  ~DeviceBuffer() override;
  Stream stream() const noexcept { return stream_.native; }
  const DeviceAllocator* home() const noexcept { return home_.get(); }
  bool pinned() const noexcept override;
  void used_until(const DeviceEventRef& event) override;
  void used_on(const DeviceStreamRef& stream) override;

 private:
  std::size_t size_class_;
  BlockStream stream_;
  std::shared_ptr<DeviceAllocator> home_;
  std::mutex mutex_;
  BlockUsers users_;
};

/// Thread-safe: blocks come back from any thread, and never wait there for what another thread waits for. Kept blocks never make the memory held exceed 1.25 times the highest use plus 64 MiB.
class DeviceAllocator : public std::enable_shared_from_this<DeviceAllocator> {
 public:
  /// Of the device; `pinned`: of the host, for copies from and to devices.
  explicit DeviceAllocator(Device device, bool pinned = false) : device_(device), pinned_(pinned) {}
  /// Of what replays of a graph use: no block goes back to the device before the allocator ends. Where the device has no more, `other` lets go of what it
  /// keeps; the cap is what `other` has left of its own.
  DeviceAllocator(Device device, std::shared_ptr<DeviceAllocator> other);
  DeviceAllocator(const DeviceAllocator&) = delete;
  ~DeviceAllocator();
  /// For work queued on `stream`, 256-byte aligned. @throws DeviceError at the cap, or when the device has no more: with all sizes and what would help.
  base::Ref<Buffer> allocate(std::size_t bytes, Stream stream);
  MemoryStats stats() const;
  void reset_peak();
  void empty_cache();
  void set_cap(std::int64_t bytes);
  /// Bytes that were asked of the device.
  std::int64_t taken() const;
  /// Blocks that come back from now on are given to nobody: a graph that is being recorded may use them.
  void hold();
  /// Ends that; the blocks are free when the result ends.
  std::shared_ptr<void> held();
  bool pinned() const noexcept { return pinned_; }
  Device device() const noexcept { return device_; }

 private:
  friend class DeviceBuffer;
  struct Kept {
    void* memory;
    std::uint64_t stream;  // its number
  };
  struct Busy {
    void* memory;
    std::size_t size_class;
    std::uint64_t stream;
    std::vector<std::shared_ptr<PooledEvent>> until;
  };
  using KeptBlocks = std::map<std::size_t, std::vector<Kept>>;  // by size class
  void reserve(std::int64_t bytes);
  void* obtain(std::size_t bytes, std::size_t size_class, std::uint64_t stream);
  void* take(std::size_t size_class, std::uint64_t stream);
  void* create(std::size_t bytes, std::size_t size_class);
  void give(void* memory, std::size_t bytes, std::size_t size_class, const BlockStream& stream, BlockUsers& users) noexcept;
  void keep(void* memory, std::size_t size_class, std::uint64_t stream);
  void collect(bool wait);
  void release_kept();
  void release(void* memory) noexcept;
  [[noreturn]] void fail_memory(std::size_t bytes) const;

  const Device device_;
  const bool pinned_;
  const std::shared_ptr<DeviceAllocator> other_;  // of the memory of a graph
  mutable std::mutex mutex_;                      // of all below; not held in calls that wait for a device
  KeptBlocks kept_;
  std::vector<Busy> busy_, held_;
  bool holds_ = false;
  MemoryStats stats_;
  std::int64_t most_ = 0, cap_ = 0, taken_ = 0;
};

}  // namespace dtensor::local::cuda
