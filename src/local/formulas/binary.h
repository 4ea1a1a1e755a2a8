// SPDX-License-Identifier: Apache-2.0
// The formulas of local/cpu/binary.h: F::of(elements..., numbers). F::divides: its integers are not to be divided by zero, which callers check.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "local/formulas/integers.h"

namespace dtensor::local::formulas {

struct Add {
  static constexpr int numbers = 1;
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b, const T* k) {
    return plus(a, times(k[0], b));
  }
};
struct Sub {
  static constexpr int numbers = 1;
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b, const T* k) {
    return minus(a, times(k[0], b));
  }
};
struct Mul {
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    return times(a, b);
  }
};

struct DivTrunc {
  static constexpr bool divides = true;
  static constexpr bool one_by_one = true;
  DTENSOR_DEVICE static std::int64_t of(std::int64_t a, std::int64_t b) { return b == -1 ? minus(std::int64_t{0}, a) : a / b; }
};
struct DivFloor {
  static constexpr bool divides = true;
  static constexpr bool one_by_one = true;
  DTENSOR_DEVICE static std::int64_t of(std::int64_t a, std::int64_t b) {
    const std::int64_t q = DivTrunc::of(a, b);
    return b != -1 && a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
  }
};
struct Fmod {
  static constexpr bool divides = true;
  static constexpr bool one_by_one = true;
  DTENSOR_DEVICE static std::int64_t of(std::int64_t a, std::int64_t b) { return b == -1 ? 0 : a % b; }
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    return std::fmod(a, b);
  }
};
struct Remainder {
  static constexpr bool divides = true;
  static constexpr bool one_by_one = true;
  DTENSOR_DEVICE static std::int64_t of(std::int64_t a, std::int64_t b) {
    const std::int64_t r = Fmod::of(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  }
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    const T r = std::fmod(a, b);
    return r != T(0) && (r < T(0)) != (b < T(0)) ? r + b : r;
  }
};
struct Div {
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    return a / b;
  }
};
struct DivTruncReal {
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    return std::trunc(a / b);
  }
};
// Python's floor division: exact where a / b rounds up to an integer.
struct DivFloorReal {
  static constexpr bool one_by_one = true;
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    if (b == T(0)) return a / b;
    const T rest = std::fmod(a, b);
    T q = (a - rest) / b;
    if (rest != T(0) && (b < T(0)) != (rest < T(0))) q -= T(1);
    if (q == T(0)) return std::copysign(T(0), a / b);
    const T floored = std::floor(q);
    return q - floored > T(0.5) ? floored + T(1) : floored;
  }
};
struct Maximum {
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    const T greater = a < b ? b : a;
    return b != b ? b : greater;
  }
};
struct Minimum {
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    const T less = b < a ? b : a;
    return b != b ? b : less;
  }
};
struct Pow {
  static constexpr bool one_by_one = true;
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    return std::pow(a, b);
  }
  DTENSOR_DEVICE static std::int64_t of(std::int64_t a, std::int64_t b) {
    if (b < 0) {  // as 1 / a^-b, truncated; of zero, zero
      return a == 1 ? 1 : a == -1 ? (b % 2 == 0 ? 1 : -1) : 0;
    }
    std::int64_t result = 1;
    for (; b != 0; b >>= 1, a = times(a, a))
      if ((b & 1) != 0) result = times(result, a);
    return result;
  }
};
struct Atan2 {
  static constexpr bool one_by_one = true;
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    return std::atan2(a, b);
  }
};
// clang-format off
struct And { DTENSOR_DEVICE static std::int64_t of(std::int64_t a, std::int64_t b) { return a & b; } };
struct Or { DTENSOR_DEVICE static std::int64_t of(std::int64_t a, std::int64_t b) { return a | b; } };
struct Xor { DTENSOR_DEVICE static std::int64_t of(std::int64_t a, std::int64_t b) { return a ^ b; } };

struct Eq { template <class T> DTENSOR_DEVICE static bool of(T a, T b) { return a == b; } };
struct Ne { template <class T> DTENSOR_DEVICE static bool of(T a, T b) { return a != b; } };
struct Lt { template <class T> DTENSOR_DEVICE static bool of(T a, T b) { return a < b; } };
struct Le { template <class T> DTENSOR_DEVICE static bool of(T a, T b) { return a <= b; } };
struct LogicalAnd { template <class T> DTENSOR_DEVICE static bool of(T a, T b) { return (a != T(0)) & (b != T(0)); } };
struct LogicalOr { template <class T> DTENSOR_DEVICE static bool of(T a, T b) { return (a != T(0)) | (b != T(0)); } };
struct LogicalXor { template <class T> DTENSOR_DEVICE static bool of(T a, T b) { return (a != T(0)) != (b != T(0)); } };
// clang-format on
struct IsClose {
  static constexpr int numbers = 3;
  template <class T>
  DTENSOR_DEVICE static bool of(T a, T b, const T* k) {
    const T distance = std::fabs(a - b), bound = k[1] + k[0] * std::fabs(b);
    const bool near = distance <= bound && distance < std::numeric_limits<T>::infinity();
    return a == b || near || (k[2] != T(0) && a != a && b != b);
  }
};

struct Select {
  template <class T>
  DTENSOR_DEVICE static T of(bool condition, T a, T b) {
    return condition ? a : b;
  }
};
struct Clamp {
  template <class T>
  DTENSOR_DEVICE static T of(T x, T low, T high) {
    const T raised = x < low || low != low ? low : x;
    return raised > high || high != high ? high : raised;
  }
};
struct Lerp {  // exact at both ends
  template <class T>
  DTENSOR_DEVICE static T of(T start, T end, T weight) {
    const T distance = end - start;
    return std::fabs(weight) < T(0.5) ? start + weight * distance : end - distance * (T(1) - weight);
  }
};
struct Addcmul {
  static constexpr int numbers = 1;
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b, T c, const T* k) {
    return plus(a, times(times(k[0], b), c));
  }
};
struct Addcdiv {
  static constexpr int numbers = 1;
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b, T c, const T* k) {
    return a + k[0] * b / c;
  }
};

}  // namespace dtensor::local::formulas
