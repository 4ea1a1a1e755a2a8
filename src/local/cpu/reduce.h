// SPDX-License-Identifier: Apache-2.0
// Reductions of strided tensors over any set of dimensions. Sums are taken in f32 for bf16, f16 and f32 (lane by lane, then pairwise), in f64 and in i64 for
// the other types; a reduction of no element is the neutral element. Outputs are row-major with the kept dimensions (sizes of one do not matter).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

enum class Reduction : std::uint8_t {
  sum,
  product,
  max,  ///< NaN wins, as in min
  min,
  absolute_sum,  ///< of |x|
  absolute_max,  ///< of |x|; neutral element 0
  absolute_min,  ///< of |x|
  square_sum,
  all,  ///< 1 when every element differs from 0
  any,
};

/// Computes in the accumulation type of the output's dtype (of the input's for all and any); numbers that are not whole are divided by `divisor` and by the
/// one element of `count`, of any dtype, when there are; `root`: then the square root.
struct ReduceOptions {
  std::optional<double> divisor = {};
  const Tensor* count = nullptr;
  bool root = false;
};
void reduce(Reduction kind, const Tensor& input, const Shape& dims, const Tensor& output, const ReduceOptions& options = {});

/// Mean of squared deviations with divisor max(0, count - correction); `root` gives its square root.
void variance(const Tensor& input, const Shape& dims, double correction, bool root, const Tensor& output);

/// i64 output: row-major index within the reduced dims of the first largest (smallest) element, the first NaN when there is one.
void arg_extreme(const Tensor& input, const Shape& dims, bool largest, const Tensor& output);
/// What the local indices of a dim add to a global index: those of each run, one after the other, `weight` times global, global + 1, ...
struct GlobalRun {
  std::int64_t global = 0, length = 0;
};
struct GlobalIndices {
  std::vector<GlobalRun> runs;
  std::int64_t weight = 1;
};
/// i64 output: the least global index of an element equal to `value` (NaN equals NaN), the largest i64 when there is none. `value` has the kept dims,
/// `indices` one entry for each of `dims`, which ascend.
void first_equal(const Tensor& input, const Tensor& value, const Shape& dims, std::span<const GlobalIndices> indices, const Tensor& output);

/// Row-major input and output seen as [outer, n, inner]: running sums over n (from the end when `reverse`), in f64 or i64.
void cumulative_sum(const Tensor& input, int dim, bool reverse, const Tensor& output);

}  // namespace dtensor::local::cpu
