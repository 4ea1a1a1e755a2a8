// SPDX-License-Identifier: Apache-2.0
// Matrices as the product routines of one thread take them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "dtensor/half.h"
#include "local/cpu/gemm_backend.h"
#include "local/cpu/gemm_small.h"

namespace dtensor::local::cpu {

template <class T>
inline constexpr bool kIsHalf = std::is_same_v<T, BFloat16> || std::is_same_v<T, Half>;
/// The type in which sums over elements of type T are taken; integers wrap.
template <class T>
using Sum = std::conditional_t<kIsHalf<T>, float, std::conditional_t<std::is_integral_v<T>, std::uint64_t, T>>;

/// The part of `m` that begins at (i, j).
template <class T>
Strided<const T> block(const Strided<const T>& m, std::int64_t i, std::int64_t j) {
  return {m.data == nullptr ? nullptr : &m(i, j), m.row, m.column};
}

/// A matrix that a BLAS takes: row-major with `ld` elements from row to row, or its transpose.
template <class C>
struct Panel {
  const C* data = nullptr;
  std::int64_t ld = 1;
  bool transposed = false;
  std::unique_ptr<C[]> copy;
};

/// A copy of rows x columns of `m`, converted.
template <class C, class T>
Panel<C> copied(const Strided<const T>& m, std::int64_t rows, std::int64_t columns) {
  Panel<C> p;
  p.transposed = m.row == 1 && m.column != 1;
  const std::int64_t outer = p.transposed ? columns : rows, inner = p.transposed ? rows : columns;
  const std::int64_t outer_stride = p.transposed ? m.column : m.row, inner_stride = p.transposed ? m.row : m.column;
  p.copy.reset(new C[static_cast<std::size_t>(outer * inner)]);
  for (std::int64_t i = 0; i < outer; ++i) {
    const T* from = m.data + i * outer_stride;
    C* to = p.copy.get() + i * inner;
    if (inner_stride == 1)
      for (std::int64_t j = 0; j < inner; ++j) to[j] = static_cast<C>(from[j]);
    else
      for (std::int64_t j = 0; j < inner; ++j) to[j] = static_cast<C>(from[j * inner_stride]);
  }
  p.data = p.copy.get();
  p.ld = inner;
  return p;
}

/// rows x columns of `m`, in place where type and strides allow it.
template <class C, class T>
Panel<C> panel(const Strided<const T>& m, std::int64_t rows, std::int64_t columns) {
  if constexpr (std::is_same_v<C, T>) {
    if ((m.column == 1 || columns == 1) && (rows == 1 || m.row >= columns)) return {m.data, rows == 1 ? columns : m.row, false, nullptr};
    if ((m.row == 1 || rows == 1) && (columns == 1 || m.column >= rows)) return {m.data, columns == 1 ? rows : m.column, true, nullptr};
  }
  return copied<C>(m, rows, columns);
}

/// c = alpha op(a) op(b) + beta c for any sizes, 0 included; op transposes. beta 0 does not read c.
template <class C>
void multiply(const BackendCall<C>& call) {
  if (call.m == 0 || call.n == 0) return;
  if (!is_small(call.m, call.n, call.k)) return gemm_backend(call);
  const Strided<const C> a{call.a, call.transpose_a ? 1 : call.lda, call.transpose_a ? call.lda : 1};
  const Strided<const C> b{call.b, call.transpose_b ? 1 : call.ldb, call.transpose_b ? call.ldb : 1};
  small_product<C>(call.m, call.n, call.k, a, b, [&call](std::int64_t i, std::int64_t j, C sum) {
    C& c = call.c[i * call.ldc + j];
    c = call.beta == C(0) ? call.alpha * sum : call.alpha * sum + call.beta * c;
  });
}

}  // namespace dtensor::local::cpu
