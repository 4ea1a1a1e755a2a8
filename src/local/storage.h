// SPDX-License-Identifier: Apache-2.0
// Buffer: a piece of memory with the works in flight on it. Storage: what views share; several storages may share a buffer copy-on-write.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/ref.h"
#include "dtensor/tensor.h"

namespace dtensor::local {

class DeviceEvent;
class DeviceStream;

/// A collective in flight, as memory sees it. Implemented by comm/. Thread-safe reference count, used from the owner rank's thread.
class PendingWork : public base::RefCounted {
 public:
  /// True when nothing of it touches this rank's memory any more (input free to be overwritten, output complete).
  virtual bool done() noexcept = 0;
  /// Blocks until the output of this rank is complete. Errors of the collective are thrown here.
  virtual void wait_output() = 0;
  /// Blocks until nobody reads this rank's input any more.
  virtual void wait_input() = 0;
};

/// Memory of one allocation. Freed on any thread (peers may hold the last reference).
class Buffer : public base::RefCounted {
 public:
  Buffer(void* data, std::size_t bytes, Device device, std::shared_ptr<void> owner, bool wrapped) noexcept
      : data_(data), bytes_(bytes), device_(device), owner_(std::move(owner)), wrapped_(wrapped) {}
  ~Buffer() override = default;
  void* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }
  Device device() const noexcept { return device_; }
  bool wrapped() const noexcept { return wrapped_; }
  /// Memory of the host that devices copy to and from while the host goes on.
  virtual bool pinned() const noexcept { return false; }
  /// Work of a device uses the memory up to `event`: it is not given to others before, unless they come after it. On any thread.
  virtual void used_until(const std::shared_ptr<DeviceEvent>& /*event*/) {}
  /// The same for all that will have been queued on `stream` when the memory is let go.
  virtual void used_on(const std::shared_ptr<DeviceStream>& /*stream*/) {}
  /// Works that write, works that read. Touched by the owner rank's thread only.
  std::vector<base::Ref<PendingWork>> writers, readers;
  /// Appends a work and drops those that are done, so that memory which is read again and again does not collect them.
  void add_writer(base::Ref<PendingWork> work) { add(writers, std::move(work)); }
  void add_reader(base::Ref<PendingWork> work) { add(readers, std::move(work)); }
  std::atomic<int> sharers{0};  ///< storages on this buffer

 private:
  static void add(std::vector<base::Ref<PendingWork>>& works, base::Ref<PendingWork> work);
  void* data_;
  std::size_t bytes_;
  Device device_;
  std::shared_ptr<void> owner_;  // of wrapped memory
  bool wrapped_;
};

/// What views of one tensor share.
class Storage final : public base::RefCounted {
 public:
  explicit Storage(base::Ref<Buffer> buffer);
  ~Storage() override;
  Buffer& buffer() const noexcept { return *buffer_; }
  const base::Ref<Buffer>& buffer_ref() const noexcept { return buffer_; }
  /// Before kernels read: waits for writers. Inline check of an empty list. Reading a storage of 0 bytes (released) is an InvalidArgument by the caller.
  void before_read() {
    if (!buffer_->writers.empty()) wait_writers();
  }
  /// Before an in-place write: waits for writers and readers, detaches a buffer that other storages share.
  void before_write() {
    if (!buffer_->writers.empty() || !buffer_->readers.empty() || buffer_->sharers.load(std::memory_order_acquire) > 1) prepare_write();
  }
  /// Releases (0) or allocates memory; detaches from sharers.
  void resize(std::size_t bytes);
  std::uint64_t version = 0;

 private:
  void wait_writers();
  void prepare_write();
  void replace(base::Ref<Buffer> buffer);
  base::Ref<Buffer> buffer_;
};

/// A block of at least `bytes` from the calling rank's caching allocator, 64-byte aligned; returned to it by whoever drops the last reference.
/// On the meta device bytes without memory. @throws DeviceError at the cap or when the machine has no more, Unsupported for a device this build lacks.
base::Ref<Buffer> allocate(std::size_t bytes, Device device);

}  // namespace dtensor::local
