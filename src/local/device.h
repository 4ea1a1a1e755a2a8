// SPDX-License-Identifier: Apache-2.0
// Memory that is not the CPU's, as Tensor and Storage see it. A build without such a device has no_cuda.cpp in the place of cuda/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/ref.h"
#include "dtensor/cuda.h"
#include "dtensor/tensor.h"
#include "dtensor/values.h"
#include "local/storage.h"

namespace dtensor::local {

/// All work is queued on the calling rank's current stream and done in that order; only copies to and from the CPU make the host wait.
class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;
  virtual CudaInfo info() = 0;
  /// @throws DeviceError for a device that is not there, with what is, and why there is none.
  virtual void check(Device device) = 0;
  /// @throws DeviceError for a device that is not there, at the cap, or when it has no more memory.
  virtual base::Ref<Buffer> allocate(std::size_t bytes, Device device) = 0;
  virtual void zero(void* memory, std::size_t bytes, Device device) = 0;
  /// Bytes from one device to another or the same one; one of them may be the CPU: the host then waits until its memory has been read or written.
  virtual void copy(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes) = 0;
  /// As the functions of copy.h, on the device.
  virtual void convert_box(void* dst, Dtype dst_dtype, std::span<const std::int64_t> dst_strides, const void* src, Dtype src_dtype,
                           std::span<const std::int64_t> src_strides, std::span<const std::int64_t> sizes, Device device) = 0;
  virtual void fill_box(void* dst, Dtype dtype, std::span<const std::int64_t> strides, std::span<const std::int64_t> sizes, const Scalar& value,
                        Device device) = 0;
  virtual MemoryStats stats(Device device) = 0;
  virtual void reset_peak(Device device) = 0;
  virtual void empty_cache(Device device) = 0;
  virtual void set_cap(std::int64_t bytes, Device device) = 0;
};

/// Null in a build without CUDA.
DeviceBackend* cuda_backend() noexcept;
/// The backend of a CUDA device. @throws Unsupported for this build ("`op`: ...").
DeviceBackend& require_cuda(Device device, const char* op);

}  // namespace dtensor::local
