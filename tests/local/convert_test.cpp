// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "dtensor/tensor.h"
#include "local/strided.h"

using namespace dtensor;

namespace {

// The value of a 16-bit pattern with `mantissa` mantissa bits, in double.
double value_of(std::uint16_t bits, int mantissa) {
  const int exponent_bits = 15 - mantissa, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits >> mantissa) & ((1 << exponent_bits) - 1), fraction = bits & ((1 << mantissa) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction != 0 ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - mantissa);
  return sign * std::ldexp((1 << mantissa) + fraction, exponent - bias - mantissa);
}

// Nearest pattern, ties to even, found among the neighbours by comparison in double.
std::uint16_t nearest(float value, int mantissa) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const double a = std::fabs(static_cast<double>(value));
  const auto infinity = static_cast<std::uint16_t>(((1 << (15 - mantissa)) - 1) << mantissa);
  std::uint16_t low = 0, high = infinity;  // value_of(low) <= a
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (value_of(middle, mantissa) <= a ? low : high) = middle;
  }
  if (std::isinf(a)) return static_cast<std::uint16_t>(sign | infinity);
  // Beyond the largest finite number rounding sees the next power of two.
  const double above = high == infinity ? std::ldexp(1.0, (1 << (14 - mantissa))) : value_of(high, mantissa);
  const double down = a - value_of(low, mantissa), up = above - a;
  const bool take_high = up < down || (up == down && (high & 1) == 0);
  return static_cast<std::uint16_t>(sign | (take_high ? high : low));
}

template <class H>
void check_rounding(int mantissa) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    H h;
    h.bits = static_cast<std::uint16_t>(bits);
    const double expected = value_of(h.bits, mantissa);
    const auto f = static_cast<float>(h);
    if (std::isnan(expected)) {
      REQUIRE(std::isnan(f));
      REQUIRE(std::isnan(static_cast<float>(H(f))));
      continue;
    }
    REQUIRE(static_cast<double>(f) == expected);
    REQUIRE(H(f).bits == h.bits);
    // The tie above this number and its two neighbours.
    const auto next = static_cast<std::uint16_t>(bits + 1);
    if (std::isinf(expected) || std::isinf(value_of(next, mantissa))) continue;
    const auto tie = static_cast<float>((expected + value_of(next, mantissa)) / 2);
    for (const float x : {tie, std::nextafter(tie, 0.0f), std::nextafter(tie, std::copysign(HUGE_VALF, tie))})
      REQUIRE(H(x).bits == nearest(x, mantissa));
  }
  std::mt19937 random(1);
  for (int i = 0; i < 300000; ++i) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (!std::isnan(x)) REQUIRE(H(x).bits == nearest(x, mantissa));
    else REQUIRE(std::isnan(static_cast<float>(H(x))));
  }
  for (const float x :
       {0.0f, -0.0f, HUGE_VALF, -HUGE_VALF, 65504.0f, 65519.996f, 65520.0f, std::numeric_limits<float>::max(), 0x1p-24f, 0x1p-25f, 0x1.000002p-25f})
    CHECK(H(x).bits == nearest(x, mantissa));
}

}  // namespace

TEST_CASE("bfloat16 rounds to nearest even and widens exactly, subnormals and NaN included") { check_rounding<BFloat16>(7); }
TEST_CASE("half rounds to nearest even and widens exactly, subnormals and NaN included") { check_rounding<Half>(10); }

TEST_CASE("a tensor converts element by element between any two dtypes, row-major or strided") {
  std::mt19937 random(2);
  for (int from = 0; from < kDtypeCount; ++from)
    for (int to = 0; to < kDtypeCount; ++to) {
      Tensor source = Tensor::empty({9, 37}, Dtype::f64);
      for (double& x : source.values<double>()) x = static_cast<double>(random() % 200);
      source = source.to(static_cast<Dtype>(from));
      const Tensor whole = source.to(static_cast<Dtype>(to)), turned = source.transpose(0, 1).to(static_cast<Dtype>(to));
      local::visit_dtype(static_cast<Dtype>(from), [&]<class From>(std::type_identity<From>) {
        local::visit_dtype(static_cast<Dtype>(to), [&]<class To>(std::type_identity<To>) {
          for (std::size_t i = 0; i < 9; ++i)
            for (std::size_t j = 0; j < 37; ++j) {
              const To expected = local::convert<To>(source.values<const From>()[i * 37 + j]);
              REQUIRE(std::bit_cast<std::array<char, sizeof(To)>>(whole.values<const To>()[i * 37 + j]) ==
                      std::bit_cast<std::array<char, sizeof(To)>>(expected));
              REQUIRE(std::bit_cast<std::array<char, sizeof(To)>>(turned.values<const To>()[j * 9 + i]) ==
                      std::bit_cast<std::array<char, sizeof(To)>>(expected));
            }
        });
      });
    }
}

TEST_CASE("floating numbers become whole ones by truncation, the least one where they are NaN or out of range") {
  using local::convert;
  CHECK(convert<std::int32_t>(-2.9f) == -2);
  CHECK(convert<std::int32_t>(3e9) == std::numeric_limits<std::int32_t>::min());
  CHECK(convert<std::int32_t>(-3e9f) == std::numeric_limits<std::int32_t>::min());
  CHECK(convert<std::int64_t>(1e30f) == std::numeric_limits<std::int64_t>::min());
  CHECK(convert<std::int64_t>(-9223372036854775808.0) == std::numeric_limits<std::int64_t>::min());
  CHECK(convert<std::int64_t>(std::nan("")) == std::numeric_limits<std::int64_t>::min());
  CHECK(convert<std::int64_t>(-HUGE_VAL) == std::numeric_limits<std::int64_t>::min());
  CHECK(convert<std::int32_t>(2147483647.0) == std::numeric_limits<std::int32_t>::max());
  CHECK(convert<std::uint8_t>(std::nan("")) == 0);
  CHECK(convert<std::uint8_t>(-1.0f) == 255);
  CHECK(convert<std::uint8_t>(300.7) == 44);
  CHECK(convert<bool>(std::nanf("")) == true);
  CHECK(convert<bool>(Half(-0.0f)) == false);
  CHECK(convert<float>(true) == 1.0f);
  CHECK(convert<std::int32_t>(BFloat16(-7.5f)) == -7);
}
