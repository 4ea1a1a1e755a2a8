// SPDX-License-Identifier: Apache-2.0
// Rows: a scalar function F::of applied to consecutive elements. Elements go in blocks of a fixed length, the last one padded, so that every element
// passes through the same instructions and its value depends neither on its position nor on alignment.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "dtensor/values.h"
#include "local/cpu/map.h"

namespace dtensor::local::cpu {

inline constexpr std::int64_t kBlock = 64;

template <class T>
T number_as(const Scalar& s) noexcept {
  if constexpr (std::is_same_v<T, bool>) return s.as_bool();
  else if constexpr (std::is_integral_v<T>) return static_cast<T>(s.as_int());
  else return static_cast<T>(s.as_double());
}

/// F has `static constexpr int numbers`: of() takes them, converted, as its last argument.
template <class F>
concept TakesNumbers = requires {
  F::numbers;
};
/// F has `static constexpr bool one_by_one`: it calls the C library, so padding would only cost.
template <class F>
concept OneByOne = requires {
  F::one_by_one;
};

template <class T>
struct Numbers {
  T k[8] = {};
};
template <class F, class T>
Numbers<T> read_numbers([[maybe_unused]] const Scalar* numbers) noexcept {
  Numbers<T> r;
  if constexpr (TakesNumbers<F>)
    for (int i = 0; i < F::numbers; ++i) r.k[i] = number_as<T>(numbers[i]);
  return r;
}
template <class F, class T, class... A>
auto apply([[maybe_unused]] const Numbers<T>& numbers, A... a) {
  if constexpr (TakesNumbers<F>) return F::of(a..., numbers.k);
  else return F::of(a...);
}

template <class F, class T, class R, class... A>
[[gnu::noinline]] void block(const Numbers<T>& numbers, R* out, const A*... in) {
  const Numbers<T> local = numbers;
  R r[kBlock];
  for (std::int64_t j = 0; j < kBlock; ++j) r[j] = static_cast<R>(apply<F>(local, in[j]...));
  std::memcpy(out, r, sizeof r);  // after all reads: `out` may be one of `in`
}

template <class T>
struct Padded {
  T values[kBlock];
  Padded(const T* from, std::int64_t n) {
    std::memcpy(values, from, static_cast<std::size_t>(n) * sizeof(T));
    std::fill(values + n, values + kBlock, from[0]);
  }
};

/// One result of type R from inputs of types A; numbers are converted to T.
template <class F, class T, class R, class... A>
struct RowOf {
  static void run(const void* const* in, void* const* out, std::int64_t n, const Scalar* numbers) {
    run_on(in, static_cast<R*>(out[0]), n, numbers, std::index_sequence_for<A...>{});
  }

 private:
  template <std::size_t... I>
  static void run_on(const void* const* in, R* out, std::int64_t n, const Scalar* numbers, std::index_sequence<I...>) {
    const Numbers<T> k = read_numbers<F, T>(numbers);
    if constexpr (OneByOne<F>) {
      for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<R>(apply<F>(k, static_cast<const A*>(in[I])[i]...));
    } else {
      std::int64_t i = 0;
      for (; i + kBlock <= n; i += kBlock) block<F>(k, out + i, (static_cast<const A*>(in[I]) + i)...);
      if (i < n) {
        R r[kBlock];
        block<F>(k, r, Padded<A>(static_cast<const A*>(in[I]) + i, n - i).values...);
        std::memcpy(out + i, r, static_cast<std::size_t>(n - i) * sizeof(R));
      }
    }
  }
};

/// The row of one op for each type that it computes in; null where it is not defined.
struct Rows {
  Row f32 = nullptr, f64 = nullptr, i64 = nullptr;
  Row of(Dtype type) const noexcept { return type == Dtype::f32 ? f32 : type == Dtype::f64 ? f64 : i64; }
};
template <class T, std::size_t>
using Always = T;
template <class F, class T, bool predicate, std::size_t... I>
constexpr Row row_for(std::index_sequence<I...>) {
  return RowOf<F, T, std::conditional_t<predicate, bool, T>, Always<T, I>...>::run;
}
/// `arity` inputs and the result of one type.
template <class F, int arity>
constexpr Rows floating_rows() {
  using Index = std::make_index_sequence<arity>;
  return {row_for<F, float, false>(Index{}), row_for<F, double, false>(Index{}), nullptr};
}
template <class F, int arity>
constexpr Rows number_rows() {
  using Index = std::make_index_sequence<arity>;
  return {row_for<F, float, false>(Index{}), row_for<F, double, false>(Index{}), row_for<F, std::int64_t, false>(Index{})};
}
/// The result is bool.
template <class F, int arity>
constexpr Rows predicate_rows() {
  using Index = std::make_index_sequence<arity>;
  return {row_for<F, float, true>(Index{}), row_for<F, double, true>(Index{}), row_for<F, std::int64_t, true>(Index{})};
}

}  // namespace dtensor::local::cpu
