// SPDX-License-Identifier: Apache-2.0
// What an optimiser does with lists of tensors on one device: steps, every element on its own, and what clipping needs. The tensors of a step may have
// different floating dtypes; computed in f64 when `param` is f64, in f32 otherwise.
#pragma once

#include <span>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

struct AdamStep {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double step = 1;        ///< 1 at the first call
  bool decoupled = true;  ///< AdamW; false: the decay is added to the gradient
  bool maximize = false;
  bool operator==(const AdamStep&) const = default;
};
struct SgdStep {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false, maximize = false;
  bool first = false;  ///< the momentum buffer is empty: it becomes the gradient
  bool operator==(const SgdStep&) const = default;
};

/// Numbers of a step that lie beside the parameter: 0-dimensional, f64 or f32; an empty one: as in the struct. `step` holds the steps before this one, which
/// counts it up; an SGD step is a first one where that gives 1.
struct StepNumbers {
  Tensor lr, step;
};

/// `max_exp_avg_sq`, the largest exp_avg_sq so far, takes its place in the step; empty: not kept (amsgrad).
struct AdamCall {
  Tensor param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq;
  AdamStep step;
  StepNumbers numbers = {};
};
/// `momentum_buffer` may be an empty Tensor when momentum is 0.
struct SgdCall {
  Tensor param, grad, momentum_buffer;
  SgdStep step;
  StepNumbers numbers = {};
};

/// tensor = tensor * factor, in f64 when `tensor` is f64, in f32 otherwise. factor: 0-dimensional, f64 or f32.
struct ScaleCall {
  Tensor tensor, factor;
};
/// output (one element) = the sum of squares of `input`, in f64 when `output` is f64, in f32 otherwise.
struct SquareSumCall {
  Tensor input, output;
};

/// Of tensors on one device. No call touches what another one writes; a call gives the same bits whichever others are beside it.
void adam_steps(std::span<const AdamCall> calls);
void sgd_steps(std::span<const SgdCall> calls);
void scales(std::span<const ScaleCall> calls);
void square_sums(std::span<const SquareSumCall> calls);

/// output = the sum of tensors of one element; all of one dtype, f64 or f32.
void sum_numbers(std::span<const Tensor* const> numbers, const Tensor& output);

}  // namespace dtensor::local::cpu
