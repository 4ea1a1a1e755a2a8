// SPDX-License-Identifier: Apache-2.0
// Elementary functions without branches, so that loops over them vectorise and give the same bits for an element wherever it stands.
// f32: within 2 ulp of the true value (sigmoid: above e^-87), special values as in <cmath>. f64: <cmath>.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "local/formulas/normal.h"

namespace dtensor::local::cpu {

/// a * b + c, fused where the CPU of this build does that; the same for every element of a loop.
[[gnu::always_inline]] inline float fused(float a, float b, float c) noexcept {
#if defined(__FP_FAST_FMAF) || defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

namespace detail {

struct Fused {
  [[gnu::always_inline]] static float of(float a, float b, float c) noexcept { return fused(a, b, c); }
};

// exp(x) = mantissa * 2^exponent with `mantissa` in [1/sqrt 2, sqrt 2]; anything for |x| > 2^21 and NaN.
struct PartsOfExp {
  float mantissa;
  std::int32_t exponent;
};
[[gnu::always_inline]] inline PartsOfExp parts_of_exp(float x) noexcept {
  const float shifted = fused(x, 1.44269504f, 12582912.0f);
  const float k = shifted - 12582912.0f;
  const float r = fused(k, -1.42860677e-6f, fused(k, -0.693145752f, x));
  float p = 1.9875691500e-4f;
  p = fused(p, r, 1.3981999507e-3f);
  p = fused(p, r, 8.3334519073e-3f);
  p = fused(p, r, 4.1665795894e-2f);
  p = fused(p, r, 1.6666665459e-1f);
  p = fused(p, r, 5.0000001201e-1f);
  return {fused(p, r * r, r) + 1.0f, static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) - 0x4b400000u)};
}
[[gnu::always_inline]] inline float power_of_two(std::int32_t n) noexcept {
  return std::bit_cast<float>((static_cast<std::uint32_t>(n) + 127u) << 23);
}
/// exp(x) for |x| <= 87 and NaN.
[[gnu::always_inline]] inline float exp_near(float x) noexcept {
  const PartsOfExp e = parts_of_exp(x);
  return e.mantissa * power_of_two(e.exponent);
}

}  // namespace detail

[[gnu::always_inline]] inline float vexp(float x) noexcept {
  const detail::PartsOfExp e = detail::parts_of_exp(x);
  const std::int32_t half = e.exponent >> 1;  // two factors reach subnormal results and infinity
  const float y = e.mantissa * detail::power_of_two(half) * detail::power_of_two(e.exponent - half);
  const float above = x < -104.0f ? 0.0f : y;
  return x > 89.0f ? std::numeric_limits<float>::infinity() : above;
}
inline double vexp(double x) noexcept { return std::exp(x); }

/// exp(x) for x <= 0; f32: 0 below e^-87.
[[gnu::always_inline]] inline float vexp_negative(float x) noexcept {
  const float y = detail::exp_near(x);
  return x < -87.0f ? 0.0f : y;
}
inline double vexp_negative(double x) noexcept { return std::exp(x); }

[[gnu::always_inline]] inline float vlog(float x) noexcept {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const bool tiny = x < std::numeric_limits<float>::min();
  const float scaled = tiny ? x * 8388608.0f : x;
  const std::uint32_t u = std::bit_cast<std::uint32_t>(scaled) + (0x3f800000u - 0x3f3504f3u);
  const float k = static_cast<float>(static_cast<std::int32_t>(u >> 23) - (tiny ? 150 : 127));
  const float f = std::bit_cast<float>((u & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  const float z = f * f;
  float p = 7.0376836292e-2f;
  p = fused(p, f, -1.1514610310e-1f);
  p = fused(p, f, 1.1676998740e-1f);
  p = fused(p, f, -1.2420140846e-1f);
  p = fused(p, f, 1.4249322787e-1f);
  p = fused(p, f, -1.6668057665e-1f);
  p = fused(p, f, 2.0000714765e-1f);
  p = fused(p, f, -2.4999993993e-1f);
  p = fused(p, f, 3.3333331174e-1f);
  float y = fused(k, -2.12194440e-4f, p * f * z);
  y = fused(-0.5f, z, y);
  const float finite = fused(k, 0.693359375f, f + y);
  const float positive = x == kInfinity ? kInfinity : finite;
  const float with_zero = x == 0.0f ? -kInfinity : positive;
  return x < 0.0f || x != x ? std::numeric_limits<float>::quiet_NaN() : with_zero;
}
inline double vlog(double x) noexcept { return std::log(x); }

/// log(1 + x): the logarithm of the rounded sum and what the rounding lost.
[[gnu::always_inline]] inline float vlog1p(float x) noexcept {
  const float u = 1.0f + x;
  const float lost = (x - (u - 1.0f)) / u;
  const float main = vlog(u);
  const float sum = lost == lost ? main + lost : main;  // lost is NaN where u is 0 or infinite
  return u == 1.0f ? x : sum;
}
inline double vlog1p(double x) noexcept { return std::log1p(x); }

[[gnu::always_inline]] inline float vtanh(float x) noexcept {
  const float a = std::fabs(x), z = x * x;
  float p = -5.70498872745e-3f;
  p = fused(p, z, 2.06390887954e-2f);
  p = fused(p, z, -5.37397155531e-2f);
  p = fused(p, z, 1.33314422036e-1f);
  p = fused(p, z, -3.33332819422e-1f);
  const float small = std::copysign(fused(p * z, x, x), x);
  const float large = std::copysign(1.0f - 2.0f / (vexp(2.0f * a) + 1.0f), x);
  return a < 0.625f ? small : large;
}
inline double vtanh(double x) noexcept { return std::tanh(x); }

template <class T>
[[gnu::always_inline]] inline T vsigmoid(T x) noexcept {
  return T(1) / (T(1) + vexp(-x));
}

/// Two polynomials (N. Juffa's fit).
[[gnu::always_inline]] inline float verf(float x) noexcept {
  const float a = std::fabs(x);
  const float t = a > 4.0f ? 4.0f : a, s = t * t;  // 1 - erf(4) is below half an ulp
  float r = fused(-1.72853470e-5f, t, 3.83197126e-4f);
  const float u = fused(-3.88396438e-3f, t, 2.42546219e-2f);
  r = fused(r, s, u);
  r = fused(r, t, -1.06777877e-1f);
  r = fused(r, t, -6.34846687e-1f);
  r = fused(r, t, -1.28717512e-1f);
  r = fused(r, t, -t);
  const float large = std::copysign(1.0f - detail::exp_near(r), x);
  float q = -5.96761703e-4f;
  q = fused(q, s, 4.99119423e-3f);
  q = fused(q, s, -2.67681349e-2f);
  q = fused(q, s, 1.12819925e-1f);
  q = fused(q, s, -3.76125336e-1f);
  q = fused(q, s, 1.28379166e-1f);
  return t > 0.927734375f ? large : fused(q, x, x);
}
inline double verf(double x) noexcept { return std::erf(x); }

/// The normal distribution function (1 + erf(x / sqrt 2)) / 2: log of its lower tail is one polynomial. f32: within 1e-7, 0 below -6.
[[gnu::always_inline]] inline float vnormal(float x) noexcept {
  const float t = std::fabs(x);
  const float y = detail::exp_near(formulas::log_lower_tail<detail::Fused>(t));
  const float tail = t > 6.0f ? 0.0f : y;
  return x < 0.0f ? tail : 1.0f - tail;
}
inline double vnormal(double x) noexcept { return 0.5 * std::erfc(-0.70710678118654752440 * x); }

/// The above for local/formulas.
struct VectorMath {
  // clang-format off
  template <class T> [[gnu::always_inline]] static T exp(T x) noexcept { return vexp(x); }
  template <class T> [[gnu::always_inline]] static T exp_negative(T x) noexcept { return vexp_negative(x); }
  template <class T> [[gnu::always_inline]] static T log(T x) noexcept { return vlog(x); }
  template <class T> [[gnu::always_inline]] static T log1p(T x) noexcept { return vlog1p(x); }
  template <class T> [[gnu::always_inline]] static T tanh(T x) noexcept { return vtanh(x); }
  template <class T> [[gnu::always_inline]] static T sigmoid(T x) noexcept { return vsigmoid(x); }
  template <class T> [[gnu::always_inline]] static T erf(T x) noexcept { return verf(x); }
  template <class T> [[gnu::always_inline]] static T normal(T x) noexcept { return vnormal(x); }
  // clang-format on
};

}  // namespace dtensor::local::cpu
