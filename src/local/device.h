// SPDX-License-Identifier: Apache-2.0
// Memory that is not the CPU's, as Tensor and Storage see it. A build without such a device has no_cuda.cpp in the place of cuda/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/ref.h"
#include "dtensor/cuda.h"
#include "dtensor/generator.h"
#include "dtensor/placement.h"
#include "dtensor/tensor.h"
#include "dtensor/values.h"
#include "local/storage.h"

namespace dtensor::local {

/// Work queued on a device in order. The stream lives as long as the object, where the object has made it.
class DeviceStream {
 public:
  DeviceStream(Device device, void* native) noexcept : device_(device), native_(native) {}
  DeviceStream(const DeviceStream&) = delete;
  virtual ~DeviceStream() = default;
  Device device() const noexcept { return device_; }
  /// A cudaStream_t.
  void* native() const noexcept { return native_; }

 private:
  Device device_;
  void* native_;
};
using DeviceStreamRef = std::shared_ptr<DeviceStream>;

/// A point in what is queued on a stream. Any thread may use it.
class DeviceEvent {
 public:
  DeviceEvent() = default;
  DeviceEvent(const DeviceEvent&) = delete;
  virtual ~DeviceEvent() = default;
  virtual bool done() noexcept = 0;
  virtual void host_waits() = 0;
};
using DeviceEventRef = std::shared_ptr<DeviceEvent>;

/// What a rank has queued on a device, to be queued again as a whole.
class DeviceGraph {
 public:
  DeviceGraph() = default;
  DeviceGraph(const DeviceGraph&) = delete;
  /// Waits for replays.
  virtual ~DeviceGraph() = default;
  virtual void replay() = 0;
  virtual std::int64_t nodes() const noexcept = 0;
  virtual std::int64_t bytes() const noexcept = 0;
};
/// A stream on which a communicator queues a rank's work. A recording that it has joined, it leaves; a replay comes after what it has queued.
struct SideStream {
  DeviceStreamRef stream;
  std::function<void()> settle;  ///< blocks until all that was asked for is queued
};

/// One box of a list that one launch copies: bytes as they are. Strides and sizes in elements.
struct BoxCopy {
  void* dst;
  const void* src;
  Shape dst_strides, src_strides, sizes;
};

/// All work is queued on the calling rank's current stream and done in that order; only copies to and from the CPU make the host wait.
class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;
  virtual CudaInfo info() = 0;
  /// Without a look at any of them.
  virtual int device_count() noexcept = 0;
  /// @throws DeviceError for a device that is not there, with what is, and why there is none.
  virtual void check(Device device) = 0;
  /// @throws InvalidArgument for an address (but null) that is no memory of the device.
  virtual void check_address(const void* memory, Device device) = 0;
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

  // Streams. None of these makes the host wait, but for synchronize.
  virtual DeviceStreamRef make_stream(Device device) = 0;
  /// Somebody else's cudaStream_t.
  virtual DeviceStreamRef wrap_stream(void* native) = 0;
  /// Of the calling rank.
  virtual DeviceStreamRef current_stream(Device device) = 0;
  /// Returns what was current before.
  virtual DeviceStreamRef set_current_stream(DeviceStreamRef stream) = 0;
  virtual DeviceEventRef record(const DeviceStream& stream) = 0;
  /// What is queued on `stream` from now on runs after `event`.
  virtual void order_after(const DeviceStream& stream, DeviceEvent& event) = 0;
  virtual bool is_done(const DeviceStream& stream) = 0;
  virtual void synchronize(const DeviceStream& stream) = 0;
  /// For an event of the device. @throws what kernels before it found wrong.
  virtual void host_waits(DeviceEvent& event, Device device) = 0;
  /// Memory of the host that devices copy to and from while the host goes on. Reused like memory of a device.
  virtual base::Ref<Buffer> allocate_pinned(std::size_t bytes) = 0;
  /// `to` and `from` are of the host, pinned, or of the stream's device. The host does not wait.
  virtual void copy_async(void* to, const void* from, std::size_t bytes, bool to_host, const DeviceStream& stream) = 0;

  // Graphs, of the calling rank, which records one at a time.
  /// As CudaGraph::record.
  virtual std::unique_ptr<DeviceGraph> record_graph(Device device, std::span<Generator* const> generators, const std::function<void()>& body) = 0;
  virtual bool is_recording(Device device) noexcept = 0;
  /// The calling rank's world ends: its graphs wait for their replays and are no more, which communicators wait for when they end. Returns whether a replay
  /// may never end, after an error: nothing that the rank's work uses may be freed then.
  virtual bool end_graphs() noexcept = 0;
  /// Whether the rank records and `buffer` was there before.
  virtual bool is_outside_recording(const Buffer& buffer) noexcept = 0;
  /// The memory is used by replays: it lives as long as the graph.
  virtual void keep_for_replays(base::Ref<Buffer> buffer) = 0;
  /// A random op has taken this call number of the generator. @throws InvalidArgument for a generator that the recording does not know.
  virtual void note_draw(const Generator& generator, std::uint64_t seed, std::uint64_t call) = 0;
  virtual void add_side_stream(const std::shared_ptr<SideStream>& side) = 0;

  // Of collectives: on a stream that is given, by any thread; no other order than the stream's.
  /// Work of `device` may read and write memory of `other`. @throws Unsupported where the machine cannot do that.
  virtual void connect(Device device, Device other) = 0;
  virtual void copy_boxes(const DeviceStream& stream, std::span<const BoxCopy> boxes, std::size_t element_bytes) = 0;
  /// As local::reduce_box, the result in each of `dsts`, which have equal strides. Each element is read from all sources before it is written.
  virtual void reduce_box(const DeviceStream& stream, std::span<void* const> dsts, const Shape& dst_strides, std::span<const void* const> sources,
                          std::span<const Shape> source_strides, const Shape& sizes, Dtype dtype, ReduceOp op, std::int64_t divisor) = 0;

  virtual MemoryStats stats(Device device) = 0;
  virtual void reset_peak(Device device) = 0;
  virtual void empty_cache(Device device) = 0;
  virtual void set_cap(std::int64_t bytes, Device device) = 0;
};

/// Whether the calling rank records a CUDA graph of the device: what it queues does not run.
bool is_recording(Device device) noexcept;

/// Null in a build without CUDA.
DeviceBackend* cuda_backend() noexcept;
/// The backend of a CUDA device. @throws Unsupported for this build ("`op`: ...").
DeviceBackend& require_cuda(Device device, const char* op);

}  // namespace dtensor::local
