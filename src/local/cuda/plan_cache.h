// SPDX-License-Identifier: Apache-2.0
// Plans of libraries that were asked for: those of the shapes used last.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/rank.h"
#include "dtensor/values.h"
#include "local/cuda/recordings.h"

namespace dtensor::local::cuda {

/// Thread-safe. Hash: of shapes.
template <class Shape, class Plan, class Hash>
class PlanCache {
 public:
  static constexpr std::size_t kMostPlans = 2048;
  /// What make() gave for the shape; null is kept too: there is no plan.
  template <class Make>
  std::shared_ptr<const Plan> find(const Shape& shape, const Make& make) {
    const std::lock_guard lock(mutex_);
    if (const auto at = plans_.find(shape); at != plans_.end()) {
      recent_.splice(recent_.begin(), recent_, at->second);
      return at->second->second;
    }
    std::shared_ptr<const Plan> plan = make();
    // What cannot be made while something is recorded may be made afterwards.
    if (plan == nullptr && any_recording()) return nullptr;
    recent_.emplace_front(shape, std::move(plan));
    plans_.emplace(shape, recent_.begin());
    if (plans_.size() > kMostPlans) {
      plans_.erase(recent_.back().first);
      recent_.pop_back();
    }
    return recent_.front().second;
  }
  std::size_t size() const noexcept { return plans_.size(); }

 private:
  using Entry = std::pair<Shape, std::shared_ptr<const Plan>>;
  std::mutex mutex_;
  std::list<Entry> recent_;  // the last used first
  std::unordered_map<Shape, typename std::list<Entry>::iterator, Hash> plans_;
};

/// What the calling rank (threads that are none: all of them) has of a library for a device, which is the thread's: rank_device() made it so.
template <class State>
State& device_state(Device device) {
  struct States {
    std::vector<std::unique_ptr<State>> by_index;
    State& at(std::size_t i) {
      if (by_index.size() <= i) by_index.resize(i + 1);
      if (by_index[i] == nullptr) by_index[i] = std::make_unique<State>();
      return *by_index[i];
    }
  };
  const std::size_t index = static_cast<std::uint8_t>(device.index);
  if (base::RankContext* const context = base::current_rank()) return base::rank_state<States>(*context).at(index);
  static std::mutex mutex;
  static States* const shared = new States;
  const std::lock_guard lock(mutex);
  return shared->at(index);
}

}  // namespace dtensor::local::cuda
