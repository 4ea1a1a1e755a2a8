// SPDX-License-Identifier: Apache-2.0
// Reading rows and elements at computed indices, and the sums back into them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dtensor/tensor.h"
#include "local/random.h"

namespace dtensor::local::cpu {

/// Positions are i64 tensors on the device of what is read or written: a place in the dimension as this rank holds it, or kElsewhere where another rank does.
inline constexpr std::int64_t kElsewhere = -1;

/// Index values of a dimension of `size`, of which `runs` are here in local order. With `from_end` negative values count from the end.
struct PositionsCall {
  std::string_view op;  ///< this and `what` outlive the kernels of the call
  const char* what = "";
  std::int64_t size = 0;
  std::span<const GlobalRun> runs;
  bool from_end = false;
  /// "op: index 7 is out of range (what has 5); indices are 0 to 4"
  std::string out_of_range(std::int64_t value) const;
};
/// index: i64 or i32. Positions in row-major order of the index, of its shape; they may share its memory. @throws Error for a value out of range; on another
/// device a later call does.
Tensor resolve_positions(const Tensor& index, const PositionsCall& call);

/// base += at * stride, kElsewhere where either is. Of one shape, in any strides.
void add_positions_to(const Tensor& at, std::int64_t stride, const Tensor& base);
/// counts[p] = how often p is among the positions. i64.
void count_positions(const Tensor& at, const Tensor& counts);
/// out[i, p] = 1 where p is at[i], else 0. i64, row-major.
void mark_positions(const Tensor& at, const Tensor& out);

/// out[o, i, :] = source[o, at[i], :], a neutral element of the sum where at[i] is kElsewhere (-0.0 for floating dtypes, 0 otherwise).
/// Any dtype; source [outer, length, inner] and out [outer, at.numel(), inner] row-major.
struct RowsCall {
  std::int64_t outer = 1, length = 0, inner = 1;
  Tensor at;
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

/// Where the coordinates of one dimension of an index lie in another tensor: coordinate i at list[i], without a list at first + i if that is in [0, length).
struct CoordinateMap {
  std::int64_t first = 0, length = 0;
  std::vector<std::int64_t> list{};
  std::int64_t at(std::int64_t i) const noexcept {
    if (!list.empty()) return list[static_cast<std::size_t>(i)];
    return first + i >= 0 && first + i < length ? first + i : kElsewhere;
  }
};
/// Elements: index, out and grad have `shape`; element x of dimension `dim` is read at at[x] (at in row-major order of `shape`), the other dimensions at
/// others[dimension].at(coordinate), which no two coordinates share. source and sums have any shape; all row-major.
struct ElementsCall {
  Shape shape{};
  int dim = 0;
  Tensor at;
  std::span<const CoordinateMap> others;  ///< entry `dim` is unused
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
  Tensor base;
  Shape strides{};           ///< per dimension of shape; those of the index are unused
  std::int64_t granule = 1;  ///< divides every base
};
void take_points(const PointsCall& call, const Tensor& source, const Tensor& values);
void deposit_points(const PointsCall& call, const Tensor& values, const Tensor& sums, const DepositOptions& options = {});
void put_points(const PointsCall& call, const Tensor& values, const Tensor& target);

}  // namespace dtensor::local::cpu
