// SPDX-License-Identifier: Apache-2.0
#include "local/storage.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "dtensor/error.h"
#include "local/device.h"

namespace dtensor::local {

namespace {

// A work stays listed until its wait has succeeded: when the world is over, each later access throws again.
template <class Wait>
void wait_all(std::vector<base::Ref<PendingWork>>& works, Wait&& wait) {
  while (!works.empty()) {
    const base::Ref<PendingWork> work = works.front();
    wait(*work);
    const auto at = std::find(works.begin(), works.end(), work);
    if (at != works.end()) works.erase(at);
  }
}

}  // namespace

void Buffer::add(std::vector<base::Ref<PendingWork>>& works, base::Ref<PendingWork> work) {
  std::erase_if(works, [](const base::Ref<PendingWork>& old) { return old->done(); });
  works.push_back(std::move(work));
}

Storage::Storage(base::Ref<Buffer> buffer) : buffer_(std::move(buffer)) {
  if (buffer_->use_count() == 1) buffer_->sharers.store(1, std::memory_order_relaxed);
  else buffer_->sharers.fetch_add(1, std::memory_order_relaxed);
}

Storage::~Storage() {
  if (buffer_->sharers.load(std::memory_order_acquire) != 1) {
    buffer_->sharers.fetch_sub(1, std::memory_order_release);
    return;
  }
  buffer_->sharers.store(0, std::memory_order_relaxed);
  // A work may hold the buffer: without a storage nobody waits through the lists, and they would keep each other alive.
  if (!buffer_->writers.empty()) buffer_->writers.clear();
  if (!buffer_->readers.empty()) buffer_->readers.clear();
}

void Storage::replace(base::Ref<Buffer> buffer) {
  buffer->sharers.store(1, std::memory_order_relaxed);
  const base::Ref<Buffer> old = std::exchange(buffer_, std::move(buffer));
  old->sharers.fetch_sub(1, std::memory_order_release);
}

void Storage::wait_writers() {
  wait_all(buffer_->writers, [](PendingWork& work) { work.wait_output(); });
}

void Storage::prepare_write() {
  wait_writers();
  if (buffer_->sharers.load(std::memory_order_acquire) > 1) {
    base::Ref<Buffer> copy = allocate(buffer_->bytes(), buffer_->device());
    const Device device = buffer_->device();
    if (is_recording(device) && require_cuda(device, "write").is_outside_recording(*buffer_))
      throw InvalidArgument(
          "CudaGraph::record: a tensor of outside the body is written while it shares its memory with another one, so that each replay would write "
          "to a new "
          "copy; call the body once before, or clone() the tensor");
    if (device.kind == DeviceKind::cuda) require_cuda(device, "write").copy(copy->data(), device, buffer_->data(), device, copy->bytes());
    else if (copy->data() != nullptr && copy->bytes() != 0) std::memcpy(copy->data(), buffer_->data(), copy->bytes());
    replace(std::move(copy));
    return;
  }
  wait_all(buffer_->readers, [](PendingWork& work) { work.wait_input(); });
}

void Storage::resize(std::size_t bytes) {
  const bool shared = buffer_->sharers.load(std::memory_order_acquire) > 1;
  if (bytes == buffer_->bytes() && !shared) return;
  wait_writers();
  if (!shared) wait_all(buffer_->readers, [](PendingWork& work) { work.wait_input(); });
  replace(allocate(bytes, buffer_->device()));
}

}  // namespace dtensor::local
