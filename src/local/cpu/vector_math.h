// SPDX-License-Identifier: Apache-2.0
// Elementary functions without branches, so that loops over them vectorise and give the same bits for an element wherever it stands.
// f32: within 2 ulp of the true value (sigmoid: above e^-87), special values as in <cmath>. f64: <cmath>.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace dtensor::local::cpu {

[[gnu::always_inline]] inline float vexp(float x) noexcept {
  const float low = x < -104.0f ? -104.0f : x;
  const float c = low > 89.0f ? 89.0f : low;  // NaN passes both
  const float shifted = c * 1.44269504f + 12582912.0f;
  const auto n = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) - 0x4b400000u);
  const float k = shifted - 12582912.0f;
  const float r = (c - k * 0.693145752f) - k * 1.42860677e-6f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float e = p * (r * r) + r + 1.0f;
  const std::int32_t half = n >> 1;  // two factors reach subnormal results and infinity
  const float first = std::bit_cast<float>(static_cast<std::uint32_t>(half + 127) << 23);
  const float second = std::bit_cast<float>(static_cast<std::uint32_t>(n - half + 127) << 23);
  return e * first * second;
}
inline double vexp(double x) noexcept { return std::exp(x); }

[[gnu::always_inline]] inline float vlog(float x) noexcept {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const bool tiny = x < std::numeric_limits<float>::min();
  const float scaled = tiny ? x * 8388608.0f : x;
  const std::uint32_t u = std::bit_cast<std::uint32_t>(scaled) + (0x3f800000u - 0x3f3504f3u);
  const float k = static_cast<float>(static_cast<std::int32_t>(u >> 23) - (tiny ? 150 : 127));
  const float f = std::bit_cast<float>((u & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  const float z = f * f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  float y = p * f * z - 2.12194440e-4f * k;
  y = y - 0.5f * z;
  const float finite = (f + y) + 0.693359375f * k;
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
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float small = std::copysign(p * z * x + x, x);
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
  const float t = std::fabs(x), s = x * x;
  float r = -1.72853470e-5f * t + 3.83197126e-4f;
  const float u = -3.88396438e-3f * t + 2.42546219e-2f;
  r = r * s + u;
  r = r * t - 1.06777877e-1f;
  r = r * t - 6.34846687e-1f;
  r = r * t - 1.28717512e-1f;
  r = r * t - t;
  const float large = std::copysign(t > 4.0f ? 1.0f : 1.0f - vexp(r), x);
  float q = -5.96761703e-4f;
  q = q * s + 4.99119423e-3f;
  q = q * s - 2.67681349e-2f;
  q = q * s + 1.12819925e-1f;
  q = q * s - 3.76125336e-1f;
  q = q * s + 1.28379166e-1f;
  return x != x ? x : (t > 0.927734375f ? large : q * x + x);
}
inline double verf(double x) noexcept { return std::erf(x); }

}  // namespace dtensor::local::cpu
