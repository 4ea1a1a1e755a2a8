// SPDX-License-Identifier: Apache-2.0
// Streams and events of devices. A rank queues its kernels on its current stream: its own, which is non-blocking, until a StreamScope names another. Moves
// between ranks run on streams of their groups; events order both. The host waits where it asks for values (item, values, to(Device::cpu())), in waits of
// this header and in barriers, and nowhere else.
#pragma once

#include <memory>

#include "dtensor/export.h"
#include "dtensor/tensor.h"
#include "dtensor/values.h"

struct CUstream_st;  // what a cudaStream_t points to

namespace dtensor {

namespace local {
class DeviceEvent;
class DeviceStream;
}  // namespace local

class Event;

/// Work queued on a device in order. A handle: copies are the same stream, which ends with the last of them, after its work.
/// Of all that takes a device: @throws InvalidArgument for one that is no CUDA device, Unsupported in a build without CUDA, DeviceError for one that the
/// machine lacks.
class DTENSOR_EXPORT Stream {
 public:
  /// A new one; it does not wait for the legacy default stream.
  static Stream create(Device device);
  /// The application's; it must live as long as handles and tensors made under it. Null is the legacy default stream of the current device.
  static Stream wrap(CUstream_st* stream);
  /// The calling rank's.
  static Stream current(Device device);
  Device device() const noexcept;
  CUstream_st* native() const noexcept;
  /// What is queued from now on runs after the event; after all that is queued on `other`. The host goes on.
  void wait(const Event& event) const;
  void wait(const Stream& other) const;
  /// Whether all that is queued has run.
  bool done() const;
  /// The host waits for all that is queued. @throws Error for what a kernel found wrong, DeviceError when the device failed.
  void synchronize() const;
  friend bool operator==(const Stream& a, const Stream& b) noexcept { return a.native() == b.native() && a.device() == b.device(); }

 private:
  friend class Event;
  friend class StreamScope;
  friend DTENSOR_EXPORT void record_stream(const Tensor& tensor, const Stream& stream);
  explicit Stream(std::shared_ptr<local::DeviceStream> stream) noexcept : stream_(std::move(stream)) {}
  std::shared_ptr<local::DeviceStream> stream_;
};

/// A point in what is queued on a stream. A handle.
class DTENSOR_EXPORT Event {
 public:
  /// After all that is queued now.
  explicit Event(const Stream& stream);
  bool done() const;
  /// The host waits. @throws as Stream::synchronize.
  void wait() const;

 private:
  friend class Stream;
  Device device_;
  std::shared_ptr<local::DeviceEvent> event_;
};

struct StreamScopeOptions {
  /// What is queued in the scope runs after all that this rank's stream had before, and what follows the scope after it: every tensor may be used inside
  /// and outside. Without it the program orders the streams (Stream::wait) and tells the memory of tensors (record_stream).
  bool ordered = true;
};
/// While it lives, `stream` is this rank's current stream on its device: kernels and new memory are of it, moves come after what it has queued. A local of
/// the rank's thread; scopes end in reverse order.
class DTENSOR_EXPORT StreamScope {
 public:
  [[nodiscard]] explicit StreamScope(const Stream& stream, const StreamScopeOptions& options = {});
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;

 private:
  Stream before_;
  bool ordered_;
};

/// The memory of `tensor` is used by what is queued on `stream`, now and until the tensor is let go: it is not given to others before that has run. Needed
/// where a tensor made under another stream is used without the order of a StreamScope. Nothing for the CPU.
DTENSOR_EXPORT void record_stream(const Tensor& tensor, const Stream& stream);

}  // namespace dtensor
