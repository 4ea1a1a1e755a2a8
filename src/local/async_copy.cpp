// SPDX-License-Identifier: Apache-2.0
#include "local/async_copy.h"

#include <utility>

#include "local/device.h"
#include "local/storage.h"

namespace dtensor::local {
namespace {

class CopyWork final : public PendingWork {
 public:
  CopyWork(DeviceEventRef event, Device device) : event_(std::move(event)), device_(device) {}
  bool done() noexcept override { return event_->done(); }
  void wait_output() override { require_cuda(device_, "wait").host_waits(*event_, device_); }
  void wait_input() override { wait_output(); }

 private:
  DeviceEventRef event_;
  Device device_;
};

}  // namespace

bool copy_async(const Tensor& to, const Tensor& from) {
  const bool to_host = from.device().kind == DeviceKind::cuda && to.is_pinned();
  const bool from_host = to.device().kind == DeviceKind::cuda && from.is_pinned();
  const bool alike = to.shape() == from.shape() && to.dtype() == from.dtype() && to.is_contiguous() && from.is_contiguous();
  if (!alike || (!to_host && !from_host)) return false;
  const Device device = to_host ? from.device() : to.device();
  DeviceBackend& backend = require_cuda(device, "copy");
  void* const target = to.data();
  const void* const source = from.read();
  const DeviceStreamRef stream = backend.current_stream(device);
  backend.copy_async(target, source, static_cast<std::size_t>(to.bytes()), to_host, *stream);
  Buffer& host = (to_host ? to : from).storage()->buffer();
  if (backend.is_recording(device)) {
    // Every replay copies; the program orders what it does with the host's memory.
    backend.keep_for_replays((to_host ? to : from).storage()->buffer_ref());
    return true;
  }
  const DeviceEventRef event = backend.record(*stream);
  const base::Ref<PendingWork> work(new CopyWork(event, device));
  host.used_until(event);
  if (to_host) host.add_writer(work);
  else host.add_reader(work);
  return true;
}

}  // namespace dtensor::local
