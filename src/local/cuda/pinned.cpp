// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/pinned.h"

#include <algorithm>
#include <atomic>
#include <string>

#include "dtensor/error.h"

namespace dtensor::local::cuda {

PinnedRing::PinnedRing(int device, std::size_t arc_bytes)
    : memory_(static_cast<std::byte*>(pinned_malloc(device, arc_bytes * kArcs))), arc_bytes_(arc_bytes) {
  for (Arc& arc : arcs_) arc.done = make_event(device);
}

PinnedRing::~PinnedRing() {
  for (Arc& arc : arcs_) free_event(arc.done);
  pinned_free(memory_);
}

void PinnedRing::close() {
  Arc& arc = arcs_[static_cast<std::size_t>(current_)];
  record(arc.done, stream_);
  arc.closed = true;
}

void PinnedRing::open_next() {
  current_ = (current_ + 1) % kArcs;
  used_ = 0;
  Arc& arc = arcs_[static_cast<std::size_t>(current_)];
  if (arc.closed && !is_done(arc.done)) host_waits(arc.done);
  arc.closed = false;
  for (auto& f : std::exchange(arc.before_reuse, {})) f();
}

void* PinnedRing::take(std::size_t bytes, Stream stream, std::function<void()> before_reuse) {
  const std::size_t size = (bytes + 31) / 32 * 32;
  if (size > arc_bytes_) throw InternalError("a piece of pinned memory is larger than its arc");
  const bool closed = arcs_[static_cast<std::size_t>(current_)].closed;
  if (used_ != 0 && (closed || stream != stream_ || used_ + size > arc_bytes_)) {
    if (!closed) close();
    open_next();
  }
  stream_ = stream;
  std::byte* piece = memory_ + static_cast<std::size_t>(current_) * arc_bytes_ + used_;
  used_ += size;
  if (before_reuse) arcs_[static_cast<std::size_t>(current_)].before_reuse.push_back(std::move(before_reuse));
  return piece;
}

Faults::Faults(int device) : any_(static_cast<std::int32_t*>(pinned_malloc(device, sizeof(std::int32_t)))), ring_(device, kArcBytes) {}
Faults::~Faults() { pinned_free(const_cast<std::int32_t*>(any_)); }

Fault* Faults::expect(Stream stream, std::function<std::string(std::int64_t)> text) {
  check();
  auto* fault = static_cast<Fault*>(ring_.take(sizeof(Fault), stream));
  // All that used the piece before is done: what it raised is said before it is used anew.
  check();
  std::erase_if(expected_, [fault](const auto& e) { return e.first == fault; });
  *fault = Fault{.any = const_cast<std::int32_t*>(any_)};
  expected_.emplace_back(fault, std::move(text));
  return fault;
}

void Faults::fail() {
  const auto is_raised = [](const auto& e) { return e.first->raised != 0; };
  *any_ = 0;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const auto raised = std::find_if(expected_.begin(), expected_.end(), is_raised);
  if (raised == expected_.end()) return;  // other threads of a kernel whose fault has been said
  const std::string text = raised->second(raised->first->value);
  std::erase_if(expected_, is_raised);
  throw Error(text);
}

}  // namespace dtensor::local::cuda
