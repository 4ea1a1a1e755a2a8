// SPDX-License-Identifier: Apache-2.0
// One optimiser step on one parameter, written in place, every rank on its own part. All tensors have the parameter's shape and floating dtypes (they may
// differ); the other operands are brought to the parameter's placement. All numbers may change from step to step without a new plan.
// Computed in f64 for an f64 parameter, in f32 otherwise. Collective over the parameter's mesh.
// @throws InvalidArgument for shapes that differ, integers, a Partial parameter, numbers of a step that have dimensions.
#pragma once

#include <span>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

/// Numbers of a step that lie beside the parameter, so that a recorded step takes what they hold when it is replayed: 0-dimensional, f64 or f32, Replicate
/// over the parameter's mesh. An empty one: the number in the options counts.
struct StepTensors {
  DTensor lr;
  DTensor step;  ///< steps made before this one, which counts it up by one in place
};

struct AdamWStepOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  double step = 1;        ///< 1 at the first step
  bool decoupled = true;  ///< AdamW (Loshchilov and Hutter 2019); false: Adam, the decay is added to the gradient
  bool maximize = false;
};
/// exp_avg and exp_avg_sq are the running means of the gradient and its square, zeros before the first step.
DTENSOR_EXPORT DTensor adamw_step_(const DTensor& param, const DTensor& grad, const DTensor& exp_avg, const DTensor& exp_avg_sq,
                                   const AdamWStepOptions& options = {});
/// amsgrad (Reddi, Kale and Kumar 2018): the step divides by the largest exp_avg_sq so far, which this keeps; zeros before the first step; empty: not kept.
DTENSOR_EXPORT DTensor adamw_step_(const DTensor& param, const DTensor& grad, const DTensor& exp_avg, const DTensor& exp_avg_sq,
                                   const DTensor& max_exp_avg_sq, const AdamWStepOptions& options, const StepTensors& tensors = {});

struct SgdStepOptions {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false, maximize = false;
  bool first_step = false;  ///< the buffer (zeros) becomes the gradient, without dampening
};
/// `momentum_buffer` may be empty when momentum is 0. With tensors.step the first step is also the one that counts it up to 1.
DTENSOR_EXPORT DTensor sgd_step_(const DTensor& param, const DTensor& grad, const DTensor& momentum_buffer, const SgdStepOptions& options = {},
                                 const StepTensors& tensors = {});

/// self *= factor, written in place: 0-dimensional, f64 or f32, never rounded to self's dtype. Computed in f64 for an f64 self, in f32 otherwise.
DTENSOR_EXPORT DTensor scale_by_(const DTensor& self, const DTensor& factor);
/// The sum of 0-dimensional tensors of one dtype, f64 or f32: Partial numbers give a Partial one.
DTENSOR_EXPORT DTensor sum_numbers(std::span<const DTensor> numbers);

}  // namespace dtensor
