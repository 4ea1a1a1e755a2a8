// SPDX-License-Identifier: Apache-2.0
// The arithmetic of local/random.h, for any device. D is double, or a type with its operators that are not fused.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "dtensor/half.h"
#include "local/cuda/block.h"

namespace dtensor::local::formulas {

/// Philox4x32-10.
inline constexpr std::uint32_t kPhiloxFactor0 = 0xD2511F53, kPhiloxFactor1 = 0xCD9E8D57, kPhiloxStep0 = 0x9E3779B9, kPhiloxStep1 = 0xBB67AE85;
struct WordPair {
  std::uint64_t of[2];
};
/// The words of elements 2 * pair and 2 * pair + 1.
DTENSOR_DEVICE inline WordPair random_words(std::uint64_t seed, std::uint64_t call, std::uint64_t pair) {
  auto c0 = static_cast<std::uint32_t>(pair), c1 = static_cast<std::uint32_t>(pair >> 32), c2 = static_cast<std::uint32_t>(call),
       c3 = static_cast<std::uint32_t>(call >> 32), k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += kPhiloxStep0, k1 += kPhiloxStep1) {
    const std::uint64_t p0 = std::uint64_t{kPhiloxFactor0} * c0, p1 = std::uint64_t{kPhiloxFactor1} * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(p1);
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(p0);
  }
  return {{c0 | (std::uint64_t{c1} << 32), c2 | (std::uint64_t{c3} << 32)}};
}

/// In [0, 1), of the 53 leading bits. (Signed conversions are the ones that vectorise.)
DTENSOR_DEVICE inline double unit(std::uint64_t word) noexcept { return static_cast<double>(static_cast<std::int64_t>(word >> 11)) * 0x1p-53; }

/// As many leading bits as the type holds, so that rounding never reaches 1.
template <class T>
DTENSOR_DEVICE double unit_of(std::uint64_t word) noexcept {
  constexpr int kBits = std::is_same_v<T, double> ? 53 : std::is_same_v<T, float> ? 24 : std::is_same_v<T, Half> ? 11 : 8;
  return static_cast<double>(static_cast<std::int64_t>(word >> (64 - kBits))) / static_cast<double>(std::int64_t{1} << kBits);
}

/// Natural logarithm of a number in (0, 1] (the polynomial of fdlibm's e_log.c).
template <class D>
DTENSOR_DEVICE D log_of(double x) noexcept {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  // The exponent that leaves the mantissa in [sqrt(1/2), sqrt(2)).
  const auto shifted = bits + 0x00095f6400000000ull;
  const D k = static_cast<double>(static_cast<std::int64_t>(shifted >> 52) - 1023);
  const D f = std::bit_cast<double>((shifted & 0x000fffffffffffffull) + 0x3fe6a09c00000000ull) - 1.0;
  const D s = f / (2.0 + f), z = s * s, w = z * z;
  const D even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  const D odd = z * (6.666666666666735130e-01 + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
  const D half = 0.5 * f * f;
  return k * 6.93147180369123816490e-01 - ((half - (s * (half + (even + odd)) + k * 1.90821492927058770002e-10)) - f);
}

template <class D>
struct SineCosine {
  D sine, cosine;
};
/// Of 2 pi u, u in [0, 1) (the polynomials of fdlibm's k_sin.c and k_cos.c on an eighth of the circle).
template <class D>
DTENSOR_DEVICE SineCosine<D> turn(double u) noexcept {
  const double quarter = std::floor(static_cast<double>(4.0 * D(u) + 0.5));
  const D x = (D(u) - 0.25 * D(quarter)) * 6.283185307179586477;
  const D z = x * x;
  const D s = x + x * z *
                      (-1.66666666666666324348e-01 +
                       z * (8.33333333332248946124e-03 +
                            z * (-1.98412698298579493134e-04 +
                                 z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
  const D c =
      1.0 - (0.5 * z - z * z *
                           (4.16666666666666019037e-02 +
                            z * (-1.38888888888741095749e-03 +
                                 z * (2.48015872894767294178e-05 +
                                      z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11))))));
  const bool swap = quarter == 1.0 || quarter == 3.0;
  const D sine = swap ? c : s, cosine = swap ? s : c;
  return {quarter == 2.0 || quarter == 3.0 ? -sine : sine, quarter == 1.0 || quarter == 2.0 ? -cosine : cosine};
}

/// Two normal numbers (Box and Muller).
template <class D, class Root>
DTENSOR_DEVICE void normal_pair(std::uint64_t first, std::uint64_t second, double mean, double std, Root root, double* values) noexcept {
  const D radius = root(-2.0 * log_of<D>(static_cast<double>(1.0 - D(unit(first)))));
  const SineCosine<D> angle = turn<D>(unit(second));
  values[0] = static_cast<double>(D(mean) + D(std) * (radius * angle.cosine));
  values[1] = static_cast<double>(D(mean) + D(std) * (radius * angle.sine));
}

/// The high half of a product of 128 bits.
DTENSOR_DEVICE inline std::uint64_t high_product(std::uint64_t a, std::uint64_t b) noexcept {
#if defined(__CUDA_ARCH__)
  return __umul64hi(a, b);
#else
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<Wide>(a) * b) >> 64);
#endif
}

}  // namespace dtensor::local::formulas
