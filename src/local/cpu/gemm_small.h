// SPDX-License-Identifier: Apache-2.0
// The product of matrices so small that a BLAS call would cost more than the arithmetic.
#pragma once

#include <cstdint>

#include <Eigen/Core>

namespace dtensor::local::cpu {

inline constexpr std::int64_t kSmallWork = 1024;  ///< multiplications; a serial BLAS needs about 0.1 us to begin
inline constexpr std::int64_t kSmallDepth = 256;  ///< k
inline constexpr std::int64_t kSmallLanes = 8;

constexpr bool is_small(std::int64_t m, std::int64_t n, std::int64_t k) noexcept {
  return k == 0 || (k <= kSmallDepth && m <= kSmallWork && n <= kSmallWork && m * n * k <= kSmallWork);
}

/// A matrix of elements of type M.
template <class M>
struct Strided {
  M* data = nullptr;
  std::int64_t row = 0, column = 0;
  M& operator()(std::int64_t i, std::int64_t j) const noexcept { return data[i * row + j * column]; }
};

/// `rows` rows of a times one panel of b (k x lanes, row-major); `store(i, j, value)` takes the sums of the first `columns`.
template <int rows, class C, class M, class Store>
void small_rows(const Strided<const M>& a, std::int64_t row, std::int64_t k, const C* panel, std::int64_t column, std::int64_t columns,
                const Store& store) {
  using Lanes = Eigen::Array<C, kSmallLanes, 1>;
  Lanes sum[rows];
  for (int r = 0; r < rows; ++r) sum[r].setZero();
  for (std::int64_t p = 0; p < k; ++p) {
    const Lanes b = Eigen::Map<const Lanes>(panel + p * kSmallLanes);
    for (int r = 0; r < rows; ++r) sum[r] += static_cast<C>(a(row + r, p)) * b;
  }
  for (int r = 0; r < rows; ++r)
    for (std::int64_t j = 0; j < columns; ++j) store(row + r, column + j, sum[r][j]);
}

/// C: the type of the sums; store(i, j, sum).
template <class C, class M, class Store>
void small_product(std::int64_t m, std::int64_t n, std::int64_t k, const Strided<const M>& a, const Strided<const M>& b, const Store& store) {
  alignas(64) C panel[kSmallDepth * kSmallLanes];
  for (std::int64_t j = 0; j < n; j += kSmallLanes) {
    const std::int64_t columns = n - j < kSmallLanes ? n - j : kSmallLanes;
    for (std::int64_t p = 0; p < k; ++p)
      for (std::int64_t l = 0; l < kSmallLanes; ++l) panel[p * kSmallLanes + l] = l < columns ? static_cast<C>(b(p, j + l)) : C(0);
    std::int64_t i = 0;
    for (; i + 4 <= m; i += 4) small_rows<4>(a, i, k, panel, j, columns, store);
    for (; i < m; ++i) small_rows<1>(a, i, k, panel, j, columns, store);
  }
}

}  // namespace dtensor::local::cpu
