// SPDX-License-Identifier: Apache-2.0
// Normalisation of groups of channels and of channels over a batch. Row-major [N, C, S], S the product of all further sizes.
#pragma once

#include <cstdint>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

/// Which elements share a mean: those of one sample and group of channels (groups > 0), or those of one channel (groups = 0).
struct ChannelNorm {
  std::int64_t samples = 0, channels = 0, size = 0, groups = 0;
  double eps = 1e-5;
  std::int64_t statistics() const noexcept { return groups > 0 ? samples * groups : channels; }
};
/// out = (x - mean) / sqrt(variance + eps) * weight + bias; mean and (biased) variance per statistic, in f64 for f64 and in f32 otherwise; weight and bias per
/// channel or null. Floating, computed in the dtype of the statistics.
void channel_norm(const ChannelNorm& n, const Tensor& x, const Tensor* weight, const Tensor* bias, const Tensor& out, const Tensor& mean,
                  const Tensor& variance);
/// With statistics that are given: out as above.
void channel_norm_apply(const ChannelNorm& n, const Tensor& x, const Tensor* weight, const Tensor* bias, const Tensor& mean, const Tensor& variance,
                        const Tensor& out);
/// Gradients for x, weight and bias; `constant`: mean and variance do not depend on x.
void channel_norm_backward(const ChannelNorm& n, const Tensor& grad, const Tensor& x, const Tensor* weight, const Tensor& mean,
                           const Tensor& variance, bool constant, const Tensor& grad_x, const Tensor& grad_weight, const Tensor& grad_bias);

/// out = (1 - momentum) was + momentum factor batch, computed in f64; an absent `was` is 0. One floating number per channel in each, of any dtype.
void running_average(const Tensor& batch, const Tensor* was, double momentum, double factor, const Tensor& out);

// The same in parts, for a batch that is split (groups = 0). Sums per channel are f64.
/// Sum of x, or with `mean` of (x - mean)^2.
void channel_sums(const ChannelNorm& n, const Tensor& x, const Tensor* mean, const Tensor& sums);
/// Sums of grad and of grad times the normalised x.
void channel_norm_sums(const ChannelNorm& n, const Tensor& grad, const Tensor& x, const Tensor& mean, const Tensor& variance, const Tensor& sums,
                       const Tensor& products);
/// The gradient for x from those sums over `count` elements.
void channel_norm_input_gradient(const ChannelNorm& n, const Tensor& grad, const Tensor& x, const Tensor* weight, const Tensor& mean,
                                 const Tensor& variance, const Tensor& sums, const Tensor& products, double count, const Tensor& grad_x);

}  // namespace dtensor::local::cpu
