// SPDX-License-Identifier: Apache-2.0
// Tensors whose elements follow from their global indices alone.
#pragma once

#include <cstdint>
#include <span>

#include "dtensor/tensor.h"
#include "local/random.h"

namespace dtensor::local::cpu {

/// start + i * step for the global indices i of the runs, one after the other: in i64 where both are integers, in f64 otherwise; converted. One dim.
void fill_steps(const Scalar& start, const Scalar& step, std::span<const GlobalRun> runs, const Tensor& out);
/// 1 where the global row is the global column, else 0. Two dims.
void fill_diagonal(std::span<const GlobalRun> rows, std::span<const GlobalRun> columns, const Tensor& out);
/// 0 into the elements of the last two dims whose global column is more than `diagonal` above the row's number (`above`), or less. Row-major.
void clear_triangle(std::span<const GlobalRun> rows, std::span<const GlobalRun> columns, std::int64_t diagonal, bool above, const Tensor& out);

}  // namespace dtensor::local::cpu
