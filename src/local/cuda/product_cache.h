// SPDX-License-Identifier: Apache-2.0
// Algorithms of products that were asked for.
#pragma once

#include <cstddef>
#include <memory>

#include "local/cuda/plan_cache.h"
#include "local/cuda/products.h"

namespace dtensor::local::cuda {

struct ProductHash {
  std::size_t operator()(const ProductShape& shape) const noexcept;
};

/// Of one rank on one device. Thread-safe.
class ProductCache {
 public:
  using Plans = PlanCache<ProductShape, ProductPlan, ProductHash>;
  static constexpr std::size_t kMostPlans = Plans::kMostPlans;
  ProductCache() : library_(make_product_library()) {}
  /// Null: there is no algorithm.
  std::shared_ptr<const ProductPlan> find(const ProductShape& shape, const ProductPointers& first) {
    return plans_.find(shape, [&] { return plan_product(*library_, shape, first); });
  }
  ProductLibrary& library() noexcept { return *library_; }
  std::size_t size() const noexcept { return plans_.size(); }

 private:
  std::shared_ptr<ProductLibrary> library_;
  Plans plans_;
};

}  // namespace dtensor::local::cuda
