// SPDX-License-Identifier: Apache-2.0
// Cross-entropy of input weight^T, some rows at a time: the logits of all rows never exist together.
#pragma once

#include <cstdint>
#include <optional>

#include "dtensor/tensor.h"
#include "local/cpu/losses.h"

namespace dtensor::local::cpu {

/// input [rows, width], weight [classes, width] of one floating dtype, target [rows] i64, row-major. Logits are rounded to that dtype; all else is computed
/// in f64 for f64 and f32 otherwise, the dtype of all numbers per row below.
struct LinearClasses {
  Classes classes;  ///< of the rows of the weight
  std::int64_t ignore_index = -100;
  std::string_view op = "linear_cross_entropy";  ///< as in LossOptions
};
/// Per row: the largest logit; -inf without classes.
void linear_row_max(const Tensor& input, const Tensor& weight, const Tensor& top);
/// Per row: the sum of exp(logit - top), and the logit of the target, 0 where it is not here or ignored.
/// @return a target that is neither ignored nor a class.
std::optional<std::int64_t> linear_exp_sum(const LinearClasses& c, const Tensor& input, const Tensor& weight, const Tensor& target, const Tensor& top,
                                           const Tensor& sums, const Tensor& logit);
/// Per row: log of the sum of exp(logit), and that minus the logit of the target, 0 where it is ignored.
std::optional<std::int64_t> linear_cross_entropy(const LinearClasses& c, const Tensor& input, const Tensor& weight, const Tensor& target,
                                                 const Tensor& loss, const Tensor& lse);
/// Gradients of the sum over rows of grad times loss.
void linear_cross_entropy_backward(const LinearClasses& c, const Tensor& grad, const Tensor& input, const Tensor& weight, const Tensor& target,
                                   const Tensor& lse, const Tensor& grad_input, const Tensor& grad_weight);

}  // namespace dtensor::local::cpu
