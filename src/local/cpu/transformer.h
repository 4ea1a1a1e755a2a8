// SPDX-License-Identifier: Apache-2.0
// Sums of rows per bag. Row-major; f32 inside for bf16 and f16.
#pragma once

#include <span>

#include "dtensor/tensor.h"
#include "local/runs.h"

namespace dtensor::local::cpu {

/// out[h, q, k] = slopes[h] (keys[k] - queries[q]), computed in f64 and rounded to out's dtype, floating.
struct AlibiTable {
  std::span<const double> slopes;
  GlobalRuns queries, keys;
};
void alibi_table(const AlibiTable& table, const Tensor& out);

/// out[b, :] = sum over i of share[b, i] weight[at[b, i], :]. at [bags, size]: positions as in embedding.h. `share` of the weight's dtype or null (ones).
void sum_bags(const Tensor& at, const Tensor& weight, const Tensor* share, const Tensor& out);
/// grad_weight[at[b, i], :] += share[b, i] grad[b, :], from zeros.
void sum_bags_backward(const Tensor& at, const Tensor& grad, const Tensor* share, const Tensor& grad_weight);
/// grad_share[b, i] = grad[b, :] . weight[at[b, i], :].
void bag_dots(const Tensor& at, const Tensor& grad, const Tensor& weight, const Tensor& grad_share);

}  // namespace dtensor::local::cpu
