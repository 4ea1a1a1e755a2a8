// SPDX-License-Identifier: Apache-2.0
#include "base/error_text.h"
#include "dtensor/device.h"
#include "local/device.h"
#include "local/storage.h"

namespace dtensor {
namespace {

local::DeviceBackend& backend_of(Device device, const char* op) {
  if (device.kind != DeviceKind::cuda)
    base::fail<InvalidArgument>("{}: {} has no streams; give a CUDA device, as Device::cuda(0)", op, to_string(device));
  local::DeviceBackend& backend = local::require_cuda(device, op);
  backend.check(device);
  return backend;
}

local::DeviceBackend& backend_of(const local::DeviceStream& stream) { return local::require_cuda(stream.device(), "stream"); }

}  // namespace

Stream Stream::create(Device device) { return Stream(backend_of(device, "Stream::create").make_stream(device)); }
Stream Stream::wrap(CUstream_st* stream) { return Stream(backend_of(Device::cuda(0), "Stream::wrap").wrap_stream(stream)); }
Stream Stream::current(Device device) { return Stream(backend_of(device, "Stream::current").current_stream(device)); }

Device Stream::device() const noexcept { return stream_->device(); }
CUstream_st* Stream::native() const noexcept { return static_cast<CUstream_st*>(stream_->native()); }
void Stream::wait(const Event& event) const { backend_of(*stream_).order_after(*stream_, *event.event_); }
void Stream::wait(const Stream& other) const { wait(Event(other)); }
bool Stream::done() const { return backend_of(*stream_).is_done(*stream_); }
void Stream::synchronize() const { backend_of(*stream_).synchronize(*stream_); }

Event::Event(const Stream& stream) : device_(stream.device()), event_(backend_of(*stream.stream_).record(*stream.stream_)) {}
bool Event::done() const { return event_->done(); }
void Event::wait() const { local::require_cuda(device_, "Event::wait").host_waits(*event_, device_); }

StreamScope::StreamScope(const Stream& stream, const StreamScopeOptions& options)
    : before_(Stream::current(stream.device())), ordered_(options.ordered && !(before_ == stream)) {
  if (ordered_) stream.wait(before_);
  backend_of(*stream.stream_).set_current_stream(stream.stream_);
}

StreamScope::~StreamScope() {
  try {
    local::DeviceBackend& backend = backend_of(*before_.stream_);
    const Stream inner(backend.set_current_stream(before_.stream_));
    if (ordered_) before_.wait(inner);
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the device has failed, and the next call says so
  }
}

void record_stream(const Tensor& tensor, const Stream& stream) {
  if (!tensor) base::fail<InvalidArgument>("record_stream: the tensor is empty; assign one first");
  tensor.storage()->buffer().used_on(stream.stream_);
}

}  // namespace dtensor
