// SPDX-License-Identifier: Apache-2.0
// One input -> one result of the same shape, and the derivatives that are fused (one or two inputs and the incoming gradient).
#pragma once

#include "dtensor/tensor.h"
#include "dtensor/values.h"

namespace dtensor::local::cpu {

enum class Unary {
  neg,
  abs,
  sign,
  exp,
  log,
  log2,
  log1p,
  expm1,
  sqrt,
  rsqrt,
  square,
  reciprocal,
  sin,
  cos,
  tan,
  tanh,
  sigmoid,
  erf,
  floor,
  ceil,
  trunc,
  round,
  relu,
  gelu,
  gelu_tanh,
  silu,
  softplus,  // softplus takes beta, threshold
  logical_not,
  isnan,
  isinf,
  isfinite  // results bool
};
/// `numbers`: what the comment at the enumerator says.
void unary(Unary op, const Tensor& input, const Tensor& out, const Scalar* numbers = nullptr);

/// Derivatives: (grad, x) -> grad * f'(x), where x is the input or, for relu, tanh and sigmoid, the result.
enum class UnaryBackward { relu, tanh, sigmoid, gelu, gelu_tanh, silu, softplus, clamp };  // softplus: beta, threshold; clamp: min, max
void unary_backward(UnaryBackward op, const Tensor& grad, const Tensor& x, const Tensor& out, const Scalar* numbers = nullptr);

/// silu(gate) * up
void swiglu(const Tensor& gate, const Tensor& up, const Tensor& out);
void swiglu_backward(const Tensor& grad, const Tensor& gate, const Tensor& up, const Tensor& grad_gate, const Tensor& grad_up);

}  // namespace dtensor::local::cpu
