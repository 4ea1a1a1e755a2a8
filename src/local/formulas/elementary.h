// SPDX-License-Identifier: Apache-2.0
// The formulas of Elementary and Pair of local/cpu/activations.h: F::of(elements..., numbers).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "local/formulas/integers.h"

namespace dtensor::local::formulas {

inline constexpr double kPi = 3.14159265358979323846;

// The recurrence lifts x to where the asymptotic series holds; below 0 the reflection formula.
DTENSOR_DEVICE inline double digamma_of(double x) {
  if (x == 0) return std::copysign(std::numeric_limits<double>::infinity(), -x);
  double result = 0;
  if (x < 0) {
    if (x == std::floor(x)) return std::numeric_limits<double>::quiet_NaN();
    result = -kPi / std::tan(kPi * std::fmod(x, 1.0));
    x = 1 - x;
  }
  for (; x < 10; x += 1) result -= 1 / x;
  const double z = 1 / (x * x);
  const double series = z * (1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z * (1.0 / 240 - z * (1.0 / 132 - z * (691.0 / 32760 - z * (1.0 / 12)))))));
  return result + std::log(x) - 0.5 / x - series;
}

// sum over k >= 0 of (x + k)^-s by Euler and Maclaurin; s > 1.
DTENSOR_DEVICE inline double hurwitz_zeta(double s, double x) {
  if (x <= 0) return x == std::floor(x) ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  constexpr double kBernoulli[8]{1.0 / 6, -1.0 / 30, 1.0 / 42, -1.0 / 30, 5.0 / 66, -691.0 / 2730, 7.0 / 6, -3617.0 / 510};
  double sum = 0;
  for (; x < 12; x += 1) sum += std::pow(x, -s);
  sum += std::pow(x, 1 - s) / (s - 1) + 0.5 * std::pow(x, -s);
  double factor = s / 2 * std::pow(x, -s - 1);
  for (int j = 0; j < 8; ++j) {
    sum += kBernoulli[j] * factor;
    const double n = 2 * static_cast<double>(j) + 1;
    factor *= (s + n) * (s + n + 1) / ((n + 2) * (n + 3) * x * x);
  }
  return sum;
}
DTENSOR_DEVICE inline double polygamma_of(int n, double x) {
  if (n == 0) return digamma_of(x);
  if (n == 1 && x < 0) {  // reflection
    const double s = std::sin(kPi * x);
    return kPi * kPi / (s * s) - hurwitz_zeta(2, 1 - x);
  }
  return (n % 2 == 1 ? 1 : -1) * std::tgamma(n + 1.0) * hurwitz_zeta(n + 1.0, x);
}

// Winitzki's form, then Newton's steps on 1 - erf, which keeps the digits near 1.
DTENSOR_DEVICE inline double erfinv_of(double y) {
  const double a = std::fabs(y);
  if (!(a < 1)) return a == 1 ? std::copysign(std::numeric_limits<double>::infinity(), y) : std::numeric_limits<double>::quiet_NaN();
  const double w = std::log1p(-a * a), t = 2 / (kPi * 0.147) + w / 2;
  double x = std::sqrt(std::max(0.0, std::sqrt(t * t - w / 0.147) - t));
  for (int step = 0; step < 4; ++step) x -= ((1 - a) - std::erfc(x)) / (1.12837916709551257390 * std::exp(-x * x));
  return std::copysign(x, y);
}

struct OneByOne1 {
  static constexpr bool one_by_one = true;
};
// clang-format off
struct Asin : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { return std::asin(x); } };
struct Acos : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { return std::acos(x); } };
struct Atan : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { return std::atan(x); } };
struct Sinh : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { return std::sinh(x); } };
struct Cosh : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { return std::cosh(x); } };
struct Asinh : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { return std::asinh(x); } };
struct Acosh : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { return std::acosh(x); } };
struct Atanh : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { return std::atanh(x); } };
struct Erfc : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { return std::erfc(x); } };
struct Erfinv : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { return static_cast<T>(erfinv_of(static_cast<double>(x))); } };
struct Exp2 : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { return std::exp2(x); } };
struct Log10 : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { return std::log10(x); } };
struct Frac { template <class T> DTENSOR_DEVICE static T of(T x) { return x - std::trunc(x); } };
struct Sinc : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { const T z = static_cast<T>(kPi) * x; return x == T(0) ? T(1) : std::sin(z) / z; } };
struct Digamma : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T x) { return static_cast<T>(digamma_of(static_cast<double>(x))); } };
// clang-format on
struct Lgamma : OneByOne1 {
  template <class T>
  DTENSOR_DEVICE static T of(T x) {
#if defined(__CUDA_ARCH__)
    return ::lgamma(x);
#else
    int sign = 0;  // lgamma() would write a global
    return static_cast<T>(lgamma_r(static_cast<double>(x), &sign));
#endif
  }
};
struct Polygamma : OneByOne1 {
  static constexpr int numbers = 1;
  template <class T>
  DTENSOR_DEVICE static T of(T x, const T* k) {
    return static_cast<T>(polygamma_of(static_cast<int>(k[0]), static_cast<double>(x)));
  }
};
struct Logit : OneByOne1 {
  static constexpr int numbers = 2;
  template <class T>
  DTENSOR_DEVICE static T of(T x, const T* k) {
    const T raised = x < k[0] ? k[0] : x, y = raised > k[1] ? k[1] : raised;
    return std::log(y / (T(1) - y));
  }
};
struct NanToNum {
  static constexpr int numbers = 3;
  template <class T>
  DTENSOR_DEVICE static T of(T x, const T* k) {
    constexpr T kInfinity = std::numeric_limits<T>::infinity();
    const T upper = x == kInfinity ? k[1] : x, lower = x == -kInfinity ? k[2] : upper;
    return x != x ? k[0] : lower;
  }
};

struct Xlogy : OneByOne1 {
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    return b != b ? b : a == T(0) ? T(0) : a * std::log(b);
  }
};
struct Logaddexp : OneByOne1 {
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    const T high = a < b ? b : a;
    return std::isinf(a) && a == b ? a : high + std::log1p(std::exp(-std::fabs(a - b)));
  }
};
struct Logaddexp2 : OneByOne1 {
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    const T high = a < b ? b : a;
    return std::isinf(a) && a == b ? a : high + std::log1p(std::exp2(-std::fabs(a - b))) * static_cast<T>(1.44269504088896340736);
  }
};
// clang-format off
struct Hypot : OneByOne1 { template <class T> DTENSOR_DEVICE static T of(T a, T b) { return std::hypot(a, b); } };
struct Copysign { template <class T> DTENSOR_DEVICE static T of(T a, T b) { return std::copysign(a, b); } };
struct Fmax { template <class T> DTENSOR_DEVICE static T of(T a, T b) { return b != b || a > b ? a : b; } };
struct Fmin { template <class T> DTENSOR_DEVICE static T of(T a, T b) { return b != b || a < b ? a : b; } };
struct Heaviside { template <class T> DTENSOR_DEVICE static T of(T a, T b) { return a != a ? a : a == T(0) ? b : a < T(0) ? T(0) : T(1); } };
// clang-format on
using I64 = std::int64_t;
struct LeftShift {
  DTENSOR_DEVICE static I64 of(I64 a, I64 b) { return b < 0 || b > 63 ? 0 : static_cast<I64>(static_cast<std::uint64_t>(a) << b); }
};
struct RightShift {
  DTENSOR_DEVICE static I64 of(I64 a, I64 b) { return a >> (b < 0 || b > 63 ? 63 : b); }
};
DTENSOR_DEVICE inline I64 gcd_of(I64 a, I64 b) {
  std::uint64_t x = a < 0 ? 0 - static_cast<std::uint64_t>(a) : static_cast<std::uint64_t>(a);
  std::uint64_t y = b < 0 ? 0 - static_cast<std::uint64_t>(b) : static_cast<std::uint64_t>(b);
  while (y != 0) {
    const std::uint64_t rest = x % y;
    x = y;
    y = rest;
  }
  return static_cast<I64>(x);
}
struct Gcd : OneByOne1 {
  DTENSOR_DEVICE static I64 of(I64 a, I64 b) { return gcd_of(a, b); }
};
struct Lcm : OneByOne1 {
  DTENSOR_DEVICE static I64 of(I64 a, I64 b) {
    const I64 g = gcd_of(a, b);
    return g == 0 ? 0 : std::abs(times(a / g, b));
  }
};

}  // namespace dtensor::local::formulas
