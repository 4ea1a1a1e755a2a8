// SPDX-License-Identifier: Apache-2.0
// Activations with their first two derivatives, elementary functions of one number, and further ones of two.
#pragma once

#include "dtensor/tensor.h"
#include "dtensor/values.h"
#include "local/cpu/binary.h"

namespace dtensor::local::cpu {

enum class Activation {
  elu,          ///< negative side, positive side, inside: neg * (e^(x * inside) - 1) below 0, pos * x above; selu and celu are cases of it
  leaky_relu,   ///< slope below 0
  hardtanh,     ///< min, max: clamped; relu6 is a case
  mish,         ///< x tanh(softplus(x))
  hardswish,    ///< x relu6(x + 3) / 6
  hardsigmoid,  ///< relu6(x + 3) / 6
  log_sigmoid,  ///< -softplus(-x)
  softsign,     ///< x / (1 + |x|)
  softshrink,   ///< lambda: x moved towards 0 by it
  hardshrink,   ///< lambda: 0 within it
  tanhshrink,   ///< x - tanh(x)
  threshold     ///< threshold, value: x above, else value
};
/// `order` 0: the function; 1 and 2: grad times its derivative of that order at x. `numbers`: what the enumerator says.
void activation(Activation op, const Tensor& x, const Tensor& out, const Scalar* numbers);
void activation_backward(Activation op, int order, const Tensor& grad, const Tensor& x, const Tensor& out, const Scalar* numbers);

enum class Elementary {
  asin,
  acos,
  atan,
  sinh,
  cosh,
  asinh,
  acosh,
  atanh,
  erfc,
  erfinv,
  exp2,
  log10,
  frac,
  sinc,  ///< sin(pi x) / (pi x)
  lgamma,
  digamma,
  polygamma,  ///< n
  logit,      ///< low, high: log(y / (1 - y)) of y = x clamped
  nan_to_num  ///< what stands for NaN, inf, -inf
};
void elementary(Elementary op, const Tensor& x, const Tensor& out, const Scalar* numbers = nullptr);

enum class Pair { xlogy, logaddexp, logaddexp2, hypot, copysign, fmax, fmin, heaviside, left_shift, right_shift, gcd, lcm };
/// Shifts, gcd and lcm: integers; the others as `out` computes. A shift by 64 or more, or by less than 0, leaves 0 (-1 of negative numbers to the right).
void pair(Pair op, const Value& a, const Value& b, const Tensor& out);

}  // namespace dtensor::local::cpu
