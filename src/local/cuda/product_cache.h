// SPDX-License-Identifier: Apache-2.0
// Algorithms of products that were asked for: those of the shapes used last.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "local/cuda/products.h"

namespace dtensor::local::cuda {

/// Of one rank on one device. Thread-safe.
class ProductCache {
 public:
  static constexpr std::size_t kMostPlans = 2048;
  ProductCache() : library_(make_product_library()) {}
  /// Null: there is no algorithm.
  std::shared_ptr<const ProductPlan> find(const ProductShape& shape, const void* bias);
  ProductLibrary& library() noexcept { return *library_; }
  std::size_t size() const noexcept { return plans_.size(); }

 private:
  struct Hash {
    std::size_t operator()(const ProductShape& shape) const noexcept;
  };
  using Entry = std::pair<ProductShape, std::shared_ptr<const ProductPlan>>;
  std::shared_ptr<ProductLibrary> library_;
  std::mutex mutex_;
  std::list<Entry> recent_;  // the last used first
  std::unordered_map<ProductShape, std::list<Entry>::iterator, Hash> plans_;
};

}  // namespace dtensor::local::cuda
