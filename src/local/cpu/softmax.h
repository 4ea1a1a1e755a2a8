// SPDX-License-Identifier: Apache-2.0
// softmax and its relatives over one dimension. Tensors are row-major unless said otherwise; computed in f32 (f64 for f64), converted once at the end.
#pragma once

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

/// exp(x - max) / sum, or its logarithm.
void softmax(const Tensor& input, int dim, bool logarithm, const Tensor& output);
/// softmax: y * (g - sum(g * y)); log_softmax: g - exp(y) * sum(g), where y is the forward's result.
void softmax_backward(const Tensor& grad, const Tensor& result, int dim, bool logarithm, const Tensor& output);
/// sum(exp(x - shift)) over `dims`, input of any strides; `shift` has one value for each sum, an infinite one counts as 0. No element: 0.
void exp_sum(const Tensor& input, const Tensor& shift, const Shape& dims, const Tensor& output);
/// log(sum(exp(x))) over `dims`, input of any strides.
void log_sum_exp(const Tensor& input, const Shape& dims, const Tensor& output);

}  // namespace dtensor::local::cpu
