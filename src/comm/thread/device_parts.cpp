// SPDX-License-Identifier: Apache-2.0
#include "comm/thread/device_parts.h"

#include <algorithm>

namespace dtensor::comm {

void Collective::OnDevice::copy(local::BoxCopy box, std::size_t element_bytes) {
  if (element_bytes != element_bytes_) flush();
  element_bytes_ = element_bytes;
  copies_.push_back(box);
}

void Collective::OnDevice::flush() {
  if (!copies_.empty()) backend_.copy_boxes(stream_, copies_, element_bytes_);
  copies_.clear();
}

void Collective::OnDevice::reduce(void* to, const redistribute::Piece& box, const std::vector<const void*>& sources,
                                  const std::vector<Shape>& source_strides, const Post& post) {
  void* const dsts[] = {to};
  backend_.reduce_box(stream_, dsts, box.strides, sources, source_strides, box.sizes, post.dtype, post.reduction.op, post.reduction.divisor);
}

void Collective::OnDevice::reduce_range(std::size_t operation, std::int64_t begin, std::int64_t end) {
  if (begin >= end) return;
  std::vector<const void*> sources;
  std::vector<void*> results;
  const Post& first = c_.post(operation, 0);
  const std::int64_t bytes = info(first.dtype).bytes;
  for (std::size_t m = 0; m < c_.members(); ++m) {
    const Post& p = c_.post(operation, m);
    if (p.in == nullptr || p.out == nullptr) return;
    sources.push_back(p.in + begin * bytes);
    results.push_back(p.out + begin * bytes);
  }
  const Shape one{1}, strides[] = {one}, count{end - begin};
  backend_.reduce_box(stream_, results, one, sources, strides, count, first.dtype, first.reduction.op, first.reduction.divisor);
}

void Collective::perform_on_device(std::size_t part) {
  const bool all = parts_ == 1;
  Device device;
  for (std::size_t m = all ? 0 : part; device.kind != DeviceKind::cuda && m < members(); ++m) device = arrivals_[m].device();
  // With several devices a member without memory has nothing to receive; its sizes are compared all the same.
  for (std::size_t m = 0; device.kind != DeviceKind::cuda && m < members(); ++m) device = arrivals_[m].device();
  local::DeviceBackend& backend = local::require_cuda(device, kind(0).c_str());
  const bool alone = members() == 1;
  const local::DeviceStreamRef stream = alone ? backend.current_stream(device) : home_->stream(device);
  for (const Arrival& a : arrivals_) {
    if (a.device().kind == DeviceKind::cuda) backend.connect(device, a.device());
    if (a.ready) backend.order_after(*stream, *a.ready);
  }
  OnDevice queue(*this, backend, *stream);
  perform(part, &queue);
  queue.flush();
  if (alone) return;
  queued_[part] = backend.record(*stream);
  for (std::size_t m = 0; m < members(); ++m)
    for (Post& p : arrivals_[m].posts) {
      // Another part may let go of the output of its own member.
      const bool writes = all || p.form == Form::all_reduce || m == part;
      if (p.in_hold) p.in_hold->used_until(queued_[part]);
      if (writes && p.out_hold) p.out_hold->used_until(queued_[part]);
    }
}

void Collective::order_stream(int member, bool all) {
  const auto own = static_cast<std::size_t>(member);
  const Device device = arrivals_[own].device();
  if (!on_device_ || device.kind != DeviceKind::cuda) return;
  local::DeviceBackend& backend = local::require_cuda(device, "wait");
  const local::DeviceStreamRef stream = backend.current_stream(device);
  const bool needs_one = !all && fills_own();
  for (std::size_t p = 0; p < parts_; ++p)
    if (queued_[p] && (!needs_one || p == own)) backend.order_after(*stream, *queued_[p]);
}

bool Collective::device_done() noexcept {
  return std::all_of(queued_.begin(), queued_.end(), [](const local::DeviceEventRef& e) { return !e || e->done(); });
}

}  // namespace dtensor::comm
