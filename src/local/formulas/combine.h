// SPDX-License-Identifier: Apache-2.0
// How collectives combine two values, in the type in which they are accumulated. One text for the CPU and for devices: the same bits.
#pragma once

#include <cstdint>
#include <type_traits>

namespace dtensor::local::combine {

struct Sum {
  template <class A>
  static constexpr A apply(A a, A b) noexcept {
    if constexpr (std::is_integral_v<A>) {
      using U = std::make_unsigned_t<A>;
      return static_cast<A>(static_cast<U>(a) + static_cast<U>(b));
    } else {
      return a + b;
    }
  }
};
struct Product {
  template <class A>
  static constexpr A apply(A a, A b) noexcept {
    // Unsigned 64-bit products wrap where narrower ones would first become int.
    if constexpr (std::is_integral_v<A>) return static_cast<A>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
    else return a * b;
  }
};
struct Min {
  template <class A>
  static constexpr A apply(A a, A b) noexcept {
    if constexpr (std::is_floating_point_v<A>) return ((b < a) | (b != b)) ? b : a;
    else return b < a ? b : a;
  }
};
struct Max {
  template <class A>
  static constexpr A apply(A a, A b) noexcept {
    if constexpr (std::is_floating_point_v<A>) return ((a < b) | (b != b)) ? b : a;
    else return a < b ? b : a;
  }
};
struct And {
  template <class A>
  static constexpr A apply(A a, A b) noexcept {
    return static_cast<A>(a & b);
  }
};
struct Or {
  template <class A>
  static constexpr A apply(A a, A b) noexcept {
    return static_cast<A>(a | b);
  }
};
struct Xor {
  template <class A>
  static constexpr A apply(A a, A b) noexcept {
    return static_cast<A>(a ^ b);
  }
};

}  // namespace dtensor::local::combine
