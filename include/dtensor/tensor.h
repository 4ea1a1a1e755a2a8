// SPDX-License-Identifier: Apache-2.0
// Tensor: this rank's memory. A handle with shape and strides, without mathematics or gradient; copies and views share the storage.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dtensor/export.h"
#include "dtensor/values.h"

namespace dtensor {

namespace local {
class Storage;
}

struct WrapOptions {
  Dtype dtype = Dtype::f32;
  Device device = {};
  Shape strides = {};                ///< in elements; empty: row-major
  std::shared_ptr<void> owner = {};  ///< kept alive as long as the memory is used
};

struct CopyOptions {
  /// Between a device and pinned memory of the host, row-major on both sides: the host goes on at once. It waits where it reads what is copied, or
  /// overwrites what is read. Elsewhere it says nothing.
  bool non_blocking = false;
};

class DTENSOR_EXPORT Tensor {
 public:
  /// No tensor.
  Tensor() noexcept = default;
  /// Uninitialised row-major memory from the rank's caching allocator. @throws DeviceError when the cap or the machine is exhausted.
  static Tensor empty(const Shape& shape, Dtype dtype, Device device = {});
  static Tensor zeros(const Shape& shape, Dtype dtype, Device device = {});
  /// Uninitialised row-major memory of the host from which and to which devices copy while the host goes on. Kept by the process for reuse.
  /// @throws Unsupported in a build without CUDA, DeviceError without a device or when the machine gives no more.
  static Tensor pinned(const Shape& shape, Dtype dtype);
  /// Borrowed memory: it must live as long as it is used (or give an owner).
  static Tensor wrap(void* data, const Shape& shape, const WrapOptions& options = {});
  /// A copy of `values` in row-major order. @throws InvalidArgument when sizes differ.
  template <class T>
  static Tensor of(std::span<const T> values, const Shape& shape) {
    return copy_of(values.data(), values.size(), shape, dtype_of<T>());
  }
  template <class T>
  static Tensor of(const std::vector<T>& values, const Shape& shape) {
    return of<T>(std::span<const T>(values), shape);
  }

  Tensor(const Tensor&) noexcept;
  Tensor(Tensor&& other) noexcept
      : storage_(std::exchange(other.storage_, nullptr)),
        shape_(other.shape_),
        strides_(other.strides_),
        offset_(other.offset_),
        dtype_(other.dtype_) {}
  Tensor& operator=(const Tensor&) noexcept;
  Tensor& operator=(Tensor&&) noexcept;
  ~Tensor() {
    if (storage_ != nullptr) release();
  }

  explicit operator bool() const noexcept { return storage_ != nullptr; }
  const Shape& shape() const noexcept { return shape_; }
  /// In elements; may be 0 for an expanded dimension.
  const Shape& strides() const noexcept { return strides_; }
  /// Of the first element in the storage, in elements.
  std::int64_t offset() const noexcept { return offset_; }
  int ndim() const noexcept { return shape_.ndim(); }
  std::int64_t numel() const noexcept { return shape_.numel(); }
  Dtype dtype() const noexcept { return dtype_; }
  Device device() const noexcept;
  std::int64_t bytes() const noexcept { return numel() * info(dtype_).bytes; }
  bool is_contiguous() const noexcept;
  /// Whether the memory is that of pinned().
  bool is_pinned() const noexcept;

  /// Address of the first element for reading and writing: waits for works on the storage and detaches a shared copy.
  void* data() const;
  /// The same for reading only: waits for pending writes.
  const void* read() const;
  /// Elements in row-major order. @throws InvalidArgument for a wrong element type or a tensor that is not contiguous. values<const T>() only reads.
  template <class T>
  std::span<T> values() const {
    check_values(dtype_of<T>());
    if constexpr (std::is_const_v<T>) return {static_cast<T*>(read()), static_cast<std::size_t>(numel())};
    else return {static_cast<T*>(data()), static_cast<std::size_t>(numel())};
  }
  /// Waits for the works that write this storage.
  void wait() const;

  // Views: share the storage, copy nothing.
  /// Any shape, strides, offset (elements from the start of the storage) within the storage. @throws InvalidArgument when it would leave it.
  Tensor as_strided(const Shape& shape, const Shape& strides, std::int64_t offset) const;
  Tensor narrow(int dim, std::int64_t start, std::int64_t length) const;
  Tensor transpose(int a, int b) const;
  Tensor permute(const Shape& order) const;
  Tensor expand(const Shape& shape) const;
  /// A view where strides allow it. @throws InvalidArgument otherwise.
  Tensor view(const Shape& shape) const;
  /// view() where strides allow it, a row-major copy otherwise.
  Tensor reshape(const Shape& shape) const;
  /// This tensor when it is row-major, a copy otherwise.
  Tensor contiguous() const;
  /// A row-major copy with its own storage.
  Tensor clone() const;
  /// A row-major copy converted to `dtype` (clone when equal).
  Tensor to(Dtype dtype) const;
  /// The same elements on another device: a row-major copy, this tensor when it is there already. To meta: shape and dtype only. To the CPU without
  /// blocking: in pinned memory.
  /// @throws InvalidArgument from meta, Unsupported for a device that this build lacks, DeviceError for one that the machine lacks.
  Tensor to(Device device) const;
  Tensor to(Device device, const CopyOptions& options) const;
  /// Copies elements (converting the dtype) from `source` of the same shape.
  void copy_(const Tensor& source) const;
  void copy_(const Tensor& source, const CopyOptions& options) const;
  void fill_(const Scalar& value) const;

  /// Bytes of the storage become 0 (memory released, shape kept) or full again (contents undefined). All views see it.
  void resize_storage(std::int64_t bytes) const;
  /// Rises with each in-place write; shared by all views.
  std::uint64_t version() const noexcept;
  void bump_version() const noexcept;
  void set_version(std::uint64_t version) const noexcept;

  /// A tensor that shares this one's memory until either is written: the writer copies first. Wrapped memory is copied at once.
  Tensor shared_copy() const;
  bool shares_storage_with(const Tensor& other) const noexcept { return storage_ == other.storage_; }

  // For kernels: no wait, no detach. The caller (the executor) has waited.
  void* raw() const noexcept;
  template <class T>
  T* raw_as() const noexcept {
    return static_cast<T*>(raw());
  }
  local::Storage* storage() const noexcept { return storage_; }

 private:
  /// Takes over a new storage.
  Tensor(local::Storage* storage, const Shape& shape, const Shape& strides, Dtype dtype) noexcept;
  void release() noexcept;
  const void* checked(const void* data, const char* op) const;
  Tensor with(const Shape& shape, const Shape& strides, std::int64_t offset) const;
  static Tensor copy_of(const void* values, std::size_t count, const Shape& shape, Dtype dtype);
  void check_values(Dtype dtype) const;
  friend class local::Storage;
  local::Storage* storage_ = nullptr;  // counted
  Shape shape_{}, strides_{};
  std::int64_t offset_ = 0;
  Dtype dtype_ = Dtype::f32;
};
/// "f32[2, 3] [[1, 2, 3], [4, 5, 6]]", long ones shortened.
DTENSOR_EXPORT std::string to_string(const Tensor& tensor);

/// Figures of this rank's caching allocator for a device (outside a world: of the process's shared one). Wrapped memory does not count.
struct MemoryStats {
  std::int64_t current = 0;      ///< bytes asked for and in use
  std::int64_t peak = 0;         ///< the most of them since reset_peak_memory()
  std::int64_t cached = 0;       ///< bytes kept for reuse
  std::int64_t allocations = 0;  ///< blocks given out so far
};
/// Of these functions: @throws Unsupported for a device that this build lacks, DeviceError for one that the machine lacks.
DTENSOR_EXPORT MemoryStats memory_stats(Device device = {});
DTENSOR_EXPORT void reset_peak_memory(Device device = {});
/// Gives cached blocks back to the system.
DTENSOR_EXPORT void empty_cache(Device device = {});
/// Bytes that this rank may have in use; 0: no cap. Beyond it DeviceError names the sizes.
DTENSOR_EXPORT void set_memory_cap(std::int64_t bytes, Device device = {});

}  // namespace dtensor
