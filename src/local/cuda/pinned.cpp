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

PinnedPieces::~PinnedPieces() {
  for (void* chunk : chunks_) pinned_free(chunk);
}

void* PinnedPieces::take(std::size_t bytes) {
  const std::size_t size = (bytes + 31) / 32 * 32;
  if (size > left_) {
    left_ = std::max(size, kChunk);
    chunks_.reserve(chunks_.size() + 1);
    chunks_.push_back(pinned_malloc(device_, left_));
    next_ = static_cast<std::byte*>(chunks_.back());
    bytes_ += left_;
  }
  left_ -= size;
  return std::exchange(next_, next_ + size);
}

Faults::Faults(int device) : any_(static_cast<std::int32_t*>(pinned_malloc(device, sizeof(std::int32_t)))), ring_(device, kArcBytes) {}
Faults::~Faults() { pinned_free(const_cast<std::int32_t*>(any_)); }

Fault* Faults::expect(Stream stream, FaultText text) {
  check();
  if (recording_) {
    auto* fault = static_cast<Fault*>(recording_->memory.take(sizeof(Fault)));
    *fault = Fault{.any = const_cast<std::int32_t*>(any_)};
    recording_->expected.emplace_back(fault, std::move(text));
    return fault;
  }
  auto* fault = static_cast<Fault*>(ring_.take(sizeof(Fault), stream));
  // All that used the piece before is done: what it raised is said before it is used anew.
  check();
  std::erase_if(expected_, [fault](const auto& e) { return e.first == fault; });
  *fault = Fault{.any = const_cast<std::int32_t*>(any_)};
  expected_.emplace_back(fault, std::move(text));
  return fault;
}

void Faults::record(const std::shared_ptr<RecordedFaults>& faults) {
  recording_ = faults;
  if (faults) graphs_.push_back(faults);
}

void Faults::forget(const std::shared_ptr<RecordedFaults>& faults) noexcept {
  std::erase(graphs_, faults);
  for (const auto& [fault, text] : faults->expected) {
    if (fault->raised == 0) continue;
    unsaid_.push_back(text(fault->value));
    *any_ = 1;
  }
}

// Words that kernels write: what is read of them is not older than what was written before.
static std::atomic_ref<std::int32_t> in_order(volatile std::int32_t& word) { return std::atomic_ref<std::int32_t>(const_cast<std::int32_t&>(word)); }

// The first that has been raised is said; the others were raised because of it, or will be again.
void Faults::fail() {
  in_order(*any_).store(0);
  std::vector<std::string> texts = std::exchange(unsaid_, {});
  const auto take = [&texts](const auto& e) {
    if (in_order(e.first->raised).load() == 0) return false;
    if (texts.empty()) texts.push_back(e.second(e.first->value));
    return true;
  };
  std::erase_if(expected_, take);
  for (const auto& graph : graphs_)
    for (const auto& e : graph->expected)
      if (take(e)) e.first->raised = 0;
  // None: other threads of a kernel whose fault has been said.
  if (!texts.empty()) throw Error(texts.front());
}

}  // namespace dtensor::local::cuda
