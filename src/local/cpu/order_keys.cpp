// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/order_keys.h"

#include <bit>
#include <limits>

#include "local/strided.h"

namespace dtensor::local::cpu {
namespace {

// Negative numbers have their bits but the sign turned, so that the integers rise as the numbers do.
std::int64_t turned(std::int64_t bits) noexcept { return bits < 0 ? bits ^ std::numeric_limits<std::int64_t>::max() : bits; }
std::int64_t key_of(double x) noexcept { return x != x ? kNanKey : turned(std::bit_cast<std::int64_t>(x + 0.0)); }

}  // namespace

std::vector<std::int64_t> order_keys(const Tensor& values, bool descending) {
  std::vector<std::int64_t> keys(static_cast<std::size_t>(values.numel()));
  const Tensor flat = values.contiguous();
  visit_dtype(flat.dtype(), [&]<class T>(std::type_identity<T>) {
    const T* from = flat.raw_as<T>();
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if constexpr (kIsFloating<T>) keys[i] = key_of(static_cast<double>(load(from[i])));
      else keys[i] = static_cast<std::int64_t>(from[i]);
      if (descending) keys[i] = ~keys[i];
    }
  });
  return keys;
}

void value_of_key(std::int64_t key, const Tensor& out) {
  visit_dtype(out.dtype(), [&]<class T>(std::type_identity<T>) {
    if constexpr (kIsFloating<T>) *out.raw_as<T>() = convert<T>(std::bit_cast<double>(turned(key)));
    else *out.raw_as<T>() = static_cast<T>(key);
  });
}

}  // namespace dtensor::local::cpu
