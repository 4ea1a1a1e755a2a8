// SPDX-License-Identifier: Apache-2.0
// Pooling and resizing of planes: the last dims of the tensors; all dims before them are the same in input and result. Row-major.
// Computed in f64 for f64, in f32 for other floating dtypes, rounded once; in the dtype for integers, whose quotients are cut towards 0.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

/// Per position of the result along one dim: the input positions [begin, end) that it reads and the number that it counts for in the divisor.
struct Windows {
  std::vector<std::int64_t> begin, end;
  std::vector<double> count;
};
/// out[y, x] = sum over both windows / (count of y times count of x, or `divisor` when it is not 0). Nothing to read gives 0.
void average_windows(const Tensor& input, const Windows& y, const Windows& x, double divisor, const Tensor& out);
void average_windows_backward(const Tensor& grad, const Windows& y, const Windows& x, double divisor, const Tensor& out);

/// One dim of max pooling. Window t begins at t * stride - padding.
struct MaxWindow {
  std::int64_t size = 1, stride = 1, padding = 0, dilation = 1;
};
/// The plane of which a part is here: that at (top, left), of a plane of `width`. Indices are y * width + x in the whole plane.
struct PlanePart {
  std::int64_t top = 0, left = 0, width = 0;
};
/// The largest element (NaN wins, of equals the first) and its index.
void max_windows(const Tensor& input, const MaxWindow& y, const MaxWindow& x, const PlanePart& part, const Tensor& out, const Tensor& indices);
/// out at index += grad, where the index is in the part that `out` is. Every index is one that its window, as max_windows() has them with `out` as its
/// input, reads.
void add_at_indices(const Tensor& grad, const Tensor& indices, const MaxWindow& y, const MaxWindow& x, const PlanePart& part, const Tensor& out);

/// out[..., a, b, c] = input[..., at[0][a], at[1][b], at[2][c]]; empty lists at the front stand for dims that are not there. Any dtype.
using Grid = std::array<std::vector<std::int64_t>, 3>;
void take_positions(const Tensor& input, int spatial, const Grid& at, const Tensor& out);
/// out[..., at[0][a], at[1][b], at[2][c]] += grad[..., a, b, c], where that position is in `out`.
void add_positions(const Tensor& grad, int spatial, const Grid& at, const Tensor& out);

}  // namespace dtensor::local::cpu
