// SPDX-License-Identifier: Apache-2.0
// One step of an optimiser on one tensor, every element on its own. The tensors may have different floating dtypes; computed in f64 when `param` is f64,
// in f32 otherwise.
#pragma once

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

struct AdamStep {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double step = 1;        ///< 1 at the first call
  bool decoupled = true;  ///< AdamW; false: the decay is added to the gradient
  bool maximize = false;
};
/// `max_exp_avg_sq`, the largest exp_avg_sq so far, takes its place in the step; empty: not kept (amsgrad).
void adam_step(const Tensor& param, const Tensor& grad, const Tensor& exp_avg, const Tensor& exp_avg_sq, const Tensor& max_exp_avg_sq,
               const AdamStep& o);

struct SgdStep {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false, maximize = false;
  bool first = false;  ///< the momentum buffer is empty: it becomes the gradient
};
/// `momentum_buffer` may be an empty Tensor when momentum is 0.
void sgd_step(const Tensor& param, const Tensor& grad, const Tensor& momentum_buffer, const SgdStep& o);

}  // namespace dtensor::local::cpu
