// SPDX-License-Identifier: Apache-2.0
// Reading rows and elements at computed indices, and the sums back into them.
#pragma once

#include <cstdint>
#include <span>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

/// The places of index values are resolved by the caller: position in the dimension that is read, or kElsewhere where another rank holds it.
inline constexpr std::int64_t kElsewhere = -1;

/// out[o, i, :] = source[o, at[i], :], a neutral element of the sum where at[i] is kElsewhere (-0.0 for floating dtypes, 0 otherwise).
/// Any dtype; source [outer, length, inner] and out [outer, at.size(), inner] row-major.
struct RowsCall {
  std::int64_t outer = 1, length = 0, inner = 1;
  std::span<const std::int64_t> at;
};
void take_rows(const RowsCall& call, const Tensor& source, const Tensor& out);
/// sums[o, at[i], :] = sum of grad[o, i, :] over i in rising order; what is kElsewhere is left out. In f32 for bf16 and f16, rounded once.
/// With `add` to what sums holds. Each term is multiplied by alpha. A sum of bools is true where one of them is.
struct DepositOptions {
  bool add = false;
  Scalar alpha = 1;
};
void deposit_rows(const RowsCall& call, const Tensor& grad, const Tensor& sums, const DepositOptions& options = {});
/// target[o, at[i], :] = source[o, i, :] (or `value` without a source), the last i counts.
void put_rows(const RowsCall& call, const Tensor& source, const Scalar& value, const Tensor& target);

/// Elements: index, out and grad have `shape`; element x of dimension `dim` is read at at[x] (at in row-major order of `shape`), the other dimensions at
/// others[dimension][coordinate]. source and sums have any shape; all row-major.
struct ElementsCall {
  Shape shape{};
  int dim = 0;
  std::span<const std::int64_t> at;
  std::span<const std::span<const std::int64_t>> others;  ///< entry `dim` is unused
};
void take_elements(const ElementsCall& call, const Tensor& source, const Tensor& out);
void deposit_elements(const ElementsCall& call, const Tensor& grad, const Tensor& sums, const DepositOptions& options = {});
/// target element = target element combined with each source element in order; NaN wins in max and min. In f32 for bf16 and f16, rounded once.
enum class Combine { product, max, min };
void combine_elements(const ElementsCall& call, const Tensor& source, Combine combine, const Tensor& target);
/// The source's elements (or `value` without a source) into target, the last in row-major order counts.
void put_elements(const ElementsCall& call, const Tensor& source, const Scalar& value, const Tensor& target);

/// Points: element x of `shape` is at base[flat index of its coordinates in dims first .. first + count - 1] plus, for each other dimension, its coordinate
/// times the stride of that dimension; kElsewhere in base: not here. source, target and sums are row-major, values have `shape` and are row-major.
struct PointsCall {
  Shape shape{};
  int first = 0, count = 0;
  std::span<const std::int64_t> base;
  Shape strides{};  ///< per dimension of shape; those of the index are unused
};
void take_points(const PointsCall& call, const Tensor& source, const Tensor& values);
void deposit_points(const PointsCall& call, const Tensor& values, const Tensor& sums, const DepositOptions& options = {});
void put_points(const PointsCall& call, const Tensor& values, const Tensor& target);

}  // namespace dtensor::local::cpu
