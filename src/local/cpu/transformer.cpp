// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/transformer.h"

#include <algorithm>
#include <span>
#include <vector>

#include "local/parallel.h"
#include "local/strided.h"

namespace dtensor::local::cpu {
namespace {

std::int64_t grain(std::int64_t work) { return std::max<std::int64_t>(1, kPointwiseGrain / std::max<std::int64_t>(1, work)); }
template <class T>
Accumulate<T> share_of(const Tensor* share, std::int64_t i) {
  return share != nullptr ? load(share->raw_as<const T>()[i]) : Accumulate<T>(1);
}

}  // namespace

void alibi_table(const AlibiTable& table, const Tensor& out) {
  visit_floating(out.dtype(), [&]<class T>(std::type_identity<T>) {
    T* to = out.raw_as<T>();
    for (const double slope : table.slopes)
      for_each_number(table.queries, [&](std::int64_t query) {
        for_each_number(table.keys, [&](std::int64_t key) { *to++ = convert<T>(slope * static_cast<double>(key - query)); });
      });
  });
}

void sum_bags(const Tensor& positions, const Tensor& weight, const Tensor* share, const Tensor& out) {
  const std::int64_t width = weight.shape()[1], bags = positions.shape()[0], size = positions.shape()[1];
  const std::span<const std::int64_t> at(positions.raw_as<const std::int64_t>(), static_cast<std::size_t>(positions.numel()));
  visit_floating(weight.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    parallel_for(bags, grain(size * width), [&](std::int64_t begin, std::int64_t end) {
      std::vector<A> sums(static_cast<std::size_t>(width));
      for (std::int64_t b = begin; b < end; ++b) {
        std::fill(sums.begin(), sums.end(), A(0));
        for (std::int64_t i = b * size; i < (b + 1) * size; ++i) {
          if (at[static_cast<std::size_t>(i)] < 0) continue;
          const A factor = share_of<T>(share, i);
          const T* row = weight.raw_as<const T>() + at[static_cast<std::size_t>(i)] * width;
          for (std::int64_t j = 0; j < width; ++j) sums[static_cast<std::size_t>(j)] += factor * load(row[j]);
        }
        for (std::int64_t j = 0; j < width; ++j) out.raw_as<T>()[b * width + j] = store<T>(sums[static_cast<std::size_t>(j)]);
      }
    });
  });
}

void sum_bags_backward(const Tensor& positions, const Tensor& grad, const Tensor* share, const Tensor& grad_weight) {
  const std::int64_t width = grad_weight.shape()[1], bags = positions.shape()[0], size = positions.shape()[1];
  const std::span<const std::int64_t> at(positions.raw_as<const std::int64_t>(), static_cast<std::size_t>(positions.numel()));
  visit_floating(grad.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    std::vector<A> sums(static_cast<std::size_t>(grad_weight.numel()));
    for (std::int64_t b = 0; b < bags; ++b)
      for (std::int64_t i = b * size; i < (b + 1) * size; ++i) {
        if (at[static_cast<std::size_t>(i)] < 0) continue;
        const A factor = share_of<T>(share, i);
        A* row = sums.data() + at[static_cast<std::size_t>(i)] * width;
        for (std::int64_t j = 0; j < width; ++j) row[j] += factor * load(grad.raw_as<const T>()[b * width + j]);
      }
    for (std::size_t i = 0; i < sums.size(); ++i) grad_weight.raw_as<T>()[i] = store<T>(sums[i]);
  });
}

void bag_dots(const Tensor& positions, const Tensor& grad, const Tensor& weight, const Tensor& grad_share) {
  const std::int64_t width = weight.shape()[1], bags = positions.shape()[0], size = positions.shape()[1];
  const std::span<const std::int64_t> at(positions.raw_as<const std::int64_t>(), static_cast<std::size_t>(positions.numel()));
  visit_floating(grad.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    for (std::int64_t i = 0; i < bags * size; ++i) {
      A total = 0;
      const std::int64_t row = at[static_cast<std::size_t>(i)];
      for (std::int64_t j = 0; row >= 0 && j < width; ++j)
        total += load(grad.raw_as<const T>()[i / size * width + j]) * load(weight.raw_as<const T>()[row * width + j]);
      grad_share.raw_as<T>()[i] = store<T>(total);
    }
  });
}

}  // namespace dtensor::local::cpu
