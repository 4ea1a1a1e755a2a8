// SPDX-License-Identifier: Apache-2.0
// Running products, extremes and log-sums along one dimension of row-major tensors, and their derivatives. Computed in f64 or i64.
#pragma once

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

void cumulative_product(const Tensor& input, int dim, const Tensor& output);
/// The derivative without a division: right where factors are 0.
void cumulative_product_backward(const Tensor& grad, const Tensor& input, int dim, const Tensor& output);
/// Largest (smallest) so far and the i64 index of the last such element; NaN stays.
void cumulative_extreme(const Tensor& input, int dim, bool largest, const Tensor& values, const Tensor& indices);
/// Each gradient added at its index, the rest 0. @throws std::domain_error for an index that is out of range.
void cumulative_extreme_backward(const Tensor& grad, const Tensor& indices, int dim, const Tensor& output);
void cumulative_log_sum(const Tensor& input, int dim, const Tensor& output);
void cumulative_log_sum_backward(const Tensor& grad, const Tensor& input, const Tensor& result, int dim, const Tensor& output);

}  // namespace dtensor::local::cpu
