// SPDX-License-Identifier: Apache-2.0
// A process-wide table of immutable values: equal values share one object, and an entry goes with its last reference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace dtensor::base {

/// T has a member `hash`; Equal compares two of them. A table must outlive every reference it gave: allocate it once and keep it.
template <class T, class Equal = std::equal_to<T>>
class InternTable {
 public:
  std::shared_ptr<const T> intern(T&& value) {
    const std::lock_guard lock(mutex_);
    const auto [first, last] = entries_.equal_range(value.hash);
    for (auto it = first; it != last; ++it) {
      // An entry's object lives until drop() has the lock, so it may be compared without a reference.
      if (!Equal{}(*it->second.object, value)) continue;
      if (auto found = it->second.reference.lock()) return found;
    }
    auto owned = std::make_unique<const T>(std::move(value));
    const auto it = entries_.emplace(owned->hash, Entry{owned.get(), {}});
    std::shared_ptr<const T> made(owned.release(), [this](const T* object) { drop(object); });
    it->second.reference = made;
    return made;
  }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return entries_.size();
  }

 private:
  struct Entry {
    const T* object;
    std::weak_ptr<const T> reference;
  };
  void drop(const T* object) {
    const std::unique_ptr<const T> owned(object);
    const std::lock_guard lock(mutex_);
    const auto [first, last] = entries_.equal_range(object->hash);
    for (auto it = first; it != last; ++it) {
      if (it->second.object != object) continue;
      entries_.erase(it);
      return;
    }
  }
  mutable std::mutex mutex_;
  std::unordered_multimap<std::uint64_t, Entry> entries_;
};

}  // namespace dtensor::base
