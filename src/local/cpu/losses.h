// SPDX-License-Identifier: Apache-2.0
// Losses over the class dimension of row-major logits [outer, classes, inner] with row-major i64 targets [outer, inner]. A target of `ignore_index` gives 0.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

/// Classes begin, begin + 1, ... lie at local, local + 1, ... here.
struct ClassRun {
  std::int64_t begin = 0, length = 0, local = 0;
};
/// The local index of a class, -1: elsewhere.
constexpr std::int64_t local_class(const ClassRun* runs, std::int64_t count, std::int64_t i) {
  for (std::int64_t r = 0; r < count; ++r)
    if (i >= runs[r].begin && i < runs[r].begin + runs[r].length) return runs[r].local + i - runs[r].begin;
  return -1;
}
/// All classes there are, and which of them are here.
struct Classes {
  std::int64_t count = 0;
  std::vector<ClassRun> runs = {};
  std::int64_t to_local(std::int64_t i) const { return local_class(runs.data(), static_cast<std::int64_t>(runs.size()), i); }
};
struct LossOptions {
  int dim = 1;  ///< of the classes
  std::int64_t ignore_index = -100;
  double label_smoothing = 0;
  std::string_view op = "cross_entropy";  ///< whose name is part of the text below; of static storage
};
/// What is wrong with a target that is no class. Forms that return no target raise it as a fault of the device with this text.
std::string wrong_target(std::string_view op, std::int64_t target, std::int64_t classes);

/// Per row log(sum(exp(x))) - (1 - s) x[target] - s mean(x), s = label_smoothing, and that logarithm. @return a target that is no class, if there is one.
std::optional<std::int64_t> cross_entropy_rows(const Tensor& logits, const Tensor& target, const LossOptions& options, const Tensor& loss,
                                               const Tensor& log_sum);
/// grad * (exp(x - log_sum) - (1 - s) [class = target] - s / classes); without log_sum the exponential is left out.
void cross_entropy_backward(const Tensor& grad, const Tensor& logits, const Tensor& target, const Tensor* log_sum, const Classes& classes,
                            const LossOptions& options, const Tensor& grad_logits);
/// Per row (1 - s) x[target] + s / classes * sum(x), over the classes that are here, times `scale`. @return a target that is no class, if there is one.
std::optional<std::int64_t> target_logit(const Tensor& logits, const Tensor& target, const Classes& classes, const LossOptions& options, double scale,
                                         const Tensor& out);
/// How many targets are not ignored, into one floating element.
void count_targets(const Tensor& target, std::int64_t ignore_index, const Tensor& count);

/// (a - b)^2 of row-major tensors of one shape, in f32 (f64 when `out` is f64), converted to the dtype of `out`.
void squared_error(const Tensor& a, const Tensor& b, const Tensor& out);

}  // namespace dtensor::local::cpu
