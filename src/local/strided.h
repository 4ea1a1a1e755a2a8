// SPDX-License-Identifier: Apache-2.0
// What every elementwise kernel needs: dispatch on the dtype, conversion between element types, and loops over several strided operands.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

#include "dtensor/half.h"
#include "dtensor/values.h"

namespace dtensor::local {

// Dispatch: visit_dtype(dtype, [&]<class T>(std::type_identity<T>) { ... }). The only switches over dtypes in kernels.

/// f64 f32 bf16 f16. @pre dtype is floating; the caller has checked.
template <class F>
decltype(auto) visit_floating(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::f64:
      return f(std::type_identity<double>{});
    case Dtype::bf16:
      return f(std::type_identity<BFloat16>{});
    case Dtype::f16:
      return f(std::type_identity<Half>{});
    default:
      return f(std::type_identity<float>{});
  }
}
/// i64 i32 u8. @pre dtype is integral.
template <class F>
decltype(auto) visit_integral(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::i32:
      return f(std::type_identity<std::int32_t>{});
    case Dtype::u8:
      return f(std::type_identity<std::uint8_t>{});
    default:
      return f(std::type_identity<std::int64_t>{});
  }
}
/// All but bool. @pre dtype is not bool.
template <class F>
decltype(auto) visit_arithmetic(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::i64:
    case Dtype::i32:
    case Dtype::u8:
      return visit_integral(dtype, std::forward<F>(f));
    default:
      return visit_floating(dtype, std::forward<F>(f));
  }
}
template <class F>
decltype(auto) visit_dtype(Dtype dtype, F&& f) {
  if (dtype == Dtype::boolean) return f(std::type_identity<bool>{});
  return visit_arithmetic(dtype, std::forward<F>(f));
}

template <class T>
inline constexpr bool kIs16Bit = std::is_same_v<T, BFloat16> || std::is_same_v<T, Half>;
template <class T>
inline constexpr bool kIsFloating = kIs16Bit<T> || std::is_floating_point_v<T>;

/// The type in which elements of T are computed and summed: float for BFloat16 and Half, T otherwise.
template <class T>
using Accumulate = std::conditional_t<kIs16Bit<T>, float, T>;

template <class T>
constexpr Accumulate<T> load(T value) noexcept {
  return static_cast<Accumulate<T>>(value);
}
template <class T>
constexpr T store(Accumulate<T> value) noexcept {
  return static_cast<T>(value);
}

/// PyTorch's conversion. Defined for every value: NaN and floating numbers that i64 or i32 do not hold become its least number, as x86 instructions give
/// it; u8 is the low byte of the i64; bool is "not zero".
template <class To, class From>
constexpr To convert(From value) noexcept {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (kIs16Bit<From>) {
    return convert<To>(static_cast<float>(value));
  } else if constexpr (std::is_same_v<To, bool>) {
    return value != From{};
  } else if constexpr (kIs16Bit<To>) {
    return To(static_cast<float>(value));
  } else if constexpr (std::is_floating_point_v<From> && std::is_same_v<To, std::uint8_t>) {
    return static_cast<std::uint8_t>(convert<std::int64_t>(value));
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    constexpr From kEnd = -static_cast<From>(std::numeric_limits<To>::min());  // the maximum plus one, a power of two
    return value >= -kEnd && value < kEnd ? static_cast<To>(value) : std::numeric_limits<To>::min();
  } else {
    return static_cast<To>(value);
  }
}
/// A number that stands for a bound or a fill: i64 and i32 take the nearest that they hold, 0 for NaN.
template <class To>
constexpr To convert(const Scalar& value) noexcept {
  if constexpr (std::is_same_v<To, bool>) return value.as_bool();
  if constexpr (std::is_same_v<To, std::int64_t> || std::is_same_v<To, std::int32_t>) {
    if (value.kind() == ScalarKind::floating) {
      const double x = value.as_double();
      if (x != x) return 0;
      if (x > 0 && x >= -static_cast<double>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::max();
    }
  }
  if (value.kind() == ScalarKind::floating) return convert<To>(value.as_double());
  return convert<To>(value.as_int());
}

/// The joint loop over N operands of equal sizes: dimensions of size 1 dropped, neighbours merged where they are one run in every operand, ordered so
/// that operand 0 has its largest stride first. At least one dimension; the innermost has strides 1 when it has one element.
template <std::size_t N>
struct StridedLoop {
  int ndim = 0;
  std::int64_t numel = 1;
  std::array<std::int64_t, kMaxDims> sizes{};
  std::array<std::array<std::int64_t, kMaxDims>, N> strides{};

  std::int64_t inner() const noexcept { return sizes[static_cast<std::size_t>(ndim - 1)]; }
  std::int64_t inner_stride(std::size_t operand) const noexcept { return strides[operand][static_cast<std::size_t>(ndim - 1)]; }
  /// All operands have inner stride 1.
  bool unit() const noexcept {
    for (std::size_t n = 0; n < N; ++n)
      if (inner_stride(n) != 1) return false;
    return true;
  }
};

namespace detail {

template <std::size_t N>
void insert_dim(StridedLoop<N>& loop, std::int64_t size, const std::array<std::int64_t, N>& strides) {
  int at = loop.ndim++;
  for (; at > 0 && loop.strides[0][static_cast<std::size_t>(at - 1)] < strides[0]; --at) {
    const auto to = static_cast<std::size_t>(at);
    loop.sizes[to] = loop.sizes[to - 1];
    for (auto& s : loop.strides) s[to] = s[to - 1];
  }
  loop.sizes[static_cast<std::size_t>(at)] = size;
  for (std::size_t n = 0; n < N; ++n) loop.strides[n][static_cast<std::size_t>(at)] = strides[n];
}

template <std::size_t N>
void merge_dims(StridedLoop<N>& loop) {
  std::size_t last = 0;
  for (std::size_t d = 1; d < static_cast<std::size_t>(loop.ndim); ++d) {
    bool one_run = true;
    for (const auto& s : loop.strides) one_run = one_run && s[last] == s[d] * loop.sizes[d];
    if (one_run) {
      loop.sizes[last] *= loop.sizes[d];
    } else {
      loop.sizes[++last] = loop.sizes[d];
    }
    for (auto& s : loop.strides) s[last] = s[d];
  }
  loop.ndim = static_cast<int>(last) + 1;
}

}  // namespace detail

template <std::size_t N>
StridedLoop<N> strided_loop(std::span<const std::int64_t> sizes, const std::array<std::span<const std::int64_t>, N>& strides) {
  StridedLoop<N> loop;
  for (std::size_t d = 0; d < sizes.size(); ++d) {
    loop.numel *= sizes[d];
    if (sizes[d] == 1) continue;
    std::array<std::int64_t, N> s;
    for (std::size_t n = 0; n < N; ++n) s[n] = strides[n][d];
    detail::insert_dim(loop, sizes[d], s);
  }
  if (loop.ndim == 0) {
    std::array<std::int64_t, N> ones;
    ones.fill(1);
    detail::insert_dim(loop, 1, ones);
  }
  detail::merge_dims(loop);
  return loop;
}

/// Runs elements [begin, end) of the loop's row-major order: f(offsets, count) with `count` elements along the innermost dimension, each operand
/// starting at its offset (in elements) and advancing by its inner_stride.
template <std::size_t N, class F>
void for_rows(const StridedLoop<N>& loop, std::int64_t begin, std::int64_t end, F&& f) {
  if (begin >= end) return;
  const auto last = static_cast<std::size_t>(loop.ndim - 1);
  std::array<std::int64_t, kMaxDims> at{};
  std::array<std::int64_t, N> offsets{};
  std::int64_t rest = begin;
  for (std::size_t d = last + 1; d-- > 0;) {
    at[d] = rest % loop.sizes[d];
    rest /= loop.sizes[d];
    for (std::size_t n = 0; n < N; ++n) offsets[n] += at[d] * loop.strides[n][d];
  }
  for (std::int64_t left = end - begin; left > 0;) {
    const std::int64_t count = std::min(left, loop.sizes[last] - at[last]);
    f(std::as_const(offsets), count);
    left -= count;
    if (left == 0) return;
    for (std::size_t n = 0; n < N; ++n) offsets[n] -= at[last] * loop.strides[n][last];
    at[last] = 0;
    for (std::size_t d = last; d-- > 0;) {
      for (std::size_t n = 0; n < N; ++n) offsets[n] += loop.strides[n][d];
      if (++at[d] < loop.sizes[d]) break;
      for (std::size_t n = 0; n < N; ++n) offsets[n] -= loop.sizes[d] * loop.strides[n][d];
      at[d] = 0;
    }
  }
}

}  // namespace dtensor::local
