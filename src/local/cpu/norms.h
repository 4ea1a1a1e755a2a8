// SPDX-License-Identifier: Apache-2.0
// Layer norm and RMS norm over the last `n` elements of row-major tensors: one pass over memory per row, computed in f32 (f64 for f64) and converted once.
// An absent weight or bias is null. mean and rstd: one number per row, in the type of computation.
#pragma once

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

/// (x - mean) * rstd * weight + bias, rstd = 1 / sqrt(variance + eps)
void layer_norm(const Tensor& input, std::int64_t n, const Tensor* weight, const Tensor* bias, double eps, const Tensor& output, const Tensor& mean,
                const Tensor& rstd);
/// Gradients of input, weight and bias. The latter two are sums over the rows here, in a fixed order.
void layer_norm_backward(const Tensor& grad, const Tensor& input, std::int64_t n, const Tensor* weight, const Tensor& mean, const Tensor& rstd,
                         const Tensor& grad_input, const Tensor& grad_weight, const Tensor& grad_bias);
/// x * rstd * weight, rstd = 1 / sqrt(mean(x * x) + eps)
void rms_norm(const Tensor& input, std::int64_t n, const Tensor* weight, double eps, const Tensor& output, const Tensor& rstd);
void rms_norm_backward(const Tensor& grad, const Tensor& input, std::int64_t n, const Tensor* weight, const Tensor& rstd, const Tensor& grad_input,
                       const Tensor& grad_weight);

}  // namespace dtensor::local::cpu
