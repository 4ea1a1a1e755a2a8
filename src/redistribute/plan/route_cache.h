// SPDX-License-Identifier: Apache-2.0
// A bounded table of routes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "redistribute/plan/route.h"

namespace dtensor::redistribute {

/// Two generations: a full young one becomes the old one and what it replaces goes, so that routes in use stay. Key has hash() and bytes(), what it holds
/// beside itself.
template <class Key>
class RouteCache {
 public:
  explicit RouteCache(std::size_t generation) : generation_(generation) {}

  /// Null where it is not known.
  RouteRef find(const Key& key) {
    const std::lock_guard lock(mutex_);
    if (const auto it = young_.find(key); it != young_.end()) return it->second;
    const auto it = old_.find(key);
    if (it == old_.end()) return nullptr;
    RouteRef route = it->second;
    put(key, route);
    return route;
  }
  void insert(const Key& key, const RouteRef& route) {
    const std::lock_guard lock(mutex_);
    put(key, route);
  }
  void add_to(RouteTable& table) {
    const std::lock_guard lock(mutex_);
    table.most += 2 * generation_;
    for (const Table* part : {&young_, &old_})
      for (const auto& [key, route] : *part) {
        ++table.routes;
        table.bytes += sizeof(typename Table::value_type) + key.bytes() + sizeof(Route) + route->moves.size() * sizeof(Move);
        for (const Move& move : route->moves) table.bytes += move.axes.size() * sizeof(int);
      }
  }

 private:
  struct Hash {
    std::size_t operator()(const Key& key) const noexcept { return static_cast<std::size_t>(key.hash()); }
  };
  using Table = std::unordered_map<Key, RouteRef, Hash>;
  void put(const Key& key, const RouteRef& route) {
    if (young_.size() >= generation_) {
      old_.swap(young_);
      young_.clear();
    }
    young_.emplace(key, route);
  }
  std::size_t generation_;
  std::mutex mutex_;
  Table young_, old_;
};

}  // namespace dtensor::redistribute
