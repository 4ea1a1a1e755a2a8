// SPDX-License-Identifier: Apache-2.0
// Losses over the class dimension of row-major logits [outer, classes, inner] with row-major i64 targets [outer, inner]. A target of `ignore_index` gives 0.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

/// Which classes are here: all classes there are, and the local index of one (-1: elsewhere).
struct Classes {
  std::int64_t count = 0;
  std::function<std::int64_t(std::int64_t)> to_local = {};
};
struct LossOptions {
  int dim = 1;  ///< of the classes
  std::int64_t ignore_index = -100;
  double label_smoothing = 0;
};

/// Per row log(sum(exp(x))) - (1 - s) x[target] - s mean(x), s = label_smoothing, and that logarithm. @return a target that is no class, if there is one.
std::optional<std::int64_t> cross_entropy_rows(const Tensor& logits, const Tensor& target, const LossOptions& options, const Tensor& loss,
                                               const Tensor& log_sum);
/// grad * (exp(x - log_sum) - (1 - s) [class = target] - s / classes); without log_sum the exponential is left out.
void cross_entropy_backward(const Tensor& grad, const Tensor& logits, const Tensor& target, const Tensor* log_sum, const Classes& classes,
                            const LossOptions& options, const Tensor& grad_logits);
/// Per row (1 - s) x[target] + s / classes * sum(x), over the classes that are here. @return a target that is no class, if there is one.
std::optional<std::int64_t> target_logit(const Tensor& logits, const Tensor& target, const Classes& classes, const LossOptions& options,
                                         const Tensor& out);

/// (a - b)^2 of row-major tensors of one shape, in f32 (f64 when `out` is f64), converted to the dtype of `out`.
void squared_error(const Tensor& a, const Tensor& b, const Tensor& out);

}  // namespace dtensor::local::cpu
