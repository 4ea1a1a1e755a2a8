// SPDX-License-Identifier: Apache-2.0
// Elementary and special functions beyond those of pointwise.h and binary.h. Integers become f32 unless said otherwise; shapes of two operands broadcast; no
// communication but that Partial inputs are reduced first. @throws InvalidArgument for shapes that do not broadcast and dtypes that do not fit.
#pragma once

#include <optional>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"
#include "dtensor/ops/binary.h"

namespace dtensor {

DTENSOR_EXPORT DTensor asin(const DTensor& input);
DTENSOR_EXPORT DTensor acos(const DTensor& input);
DTENSOR_EXPORT DTensor atan(const DTensor& input);
DTENSOR_EXPORT DTensor sinh(const DTensor& input);
DTENSOR_EXPORT DTensor cosh(const DTensor& input);
DTENSOR_EXPORT DTensor asinh(const DTensor& input);
DTENSOR_EXPORT DTensor acosh(const DTensor& input);
DTENSOR_EXPORT DTensor atanh(const DTensor& input);
/// 1 - erf(x), without loss for large x.
DTENSOR_EXPORT DTensor erfc(const DTensor& input);
/// y with erf(y) = x; infinite at -1 and 1.
DTENSOR_EXPORT DTensor erfinv(const DTensor& input);
DTENSOR_EXPORT DTensor exp2(const DTensor& input);
DTENSOR_EXPORT DTensor log10(const DTensor& input);
/// To the nearest multiple of 10^-decimals, halves to even; integers pass.
DTENSOR_EXPORT DTensor round(const DTensor& input, int decimals);
/// x - trunc(x). Floating dtypes.
DTENSOR_EXPORT DTensor frac(const DTensor& input);
/// sin(pi x) / (pi x), 1 at 0.
DTENSOR_EXPORT DTensor sinc(const DTensor& input);
/// log |Gamma(x)|, its derivative, and that one's derivative of order n.
DTENSOR_EXPORT DTensor lgamma(const DTensor& input);
DTENSOR_EXPORT DTensor digamma(const DTensor& input);
DTENSOR_EXPORT DTensor polygamma(int n, const DTensor& input);
struct LogitOptions {
  std::optional<double> eps = {};  ///< x is clamped to [eps, 1 - eps]
};
/// log(x / (1 - x)).
DTENSOR_EXPORT DTensor logit(const DTensor& input, const LogitOptions& options = {});
struct NanToNumOptions {
  double nan = 0;
  std::optional<double> posinf = {}, neginf = {};  ///< the dtype's largest and lowest value
};
/// Finite stand-ins for NaN and infinities; integers pass.
DTENSOR_EXPORT DTensor nan_to_num(const DTensor& input, const NanToNumOptions& options = {});
DTENSOR_EXPORT DTensor deg2rad(const DTensor& input);
DTENSOR_EXPORT DTensor rad2deg(const DTensor& input);
/// bool results.
DTENSOR_EXPORT DTensor isposinf(const DTensor& input);
DTENSOR_EXPORT DTensor isneginf(const DTensor& input);
/// Every bit turned; bool: logical_not. Integers and bool.
DTENSOR_EXPORT DTensor bitwise_not(const DTensor& input);

/// input log(other), 0 where input is 0 (NaN where other is).
DTENSOR_EXPORT DTensor xlogy(const DTensor& input, const DTensor& other);
/// log(e^input + e^other), and in base 2, without overflow.
DTENSOR_EXPORT DTensor logaddexp(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor logaddexp2(const DTensor& input, const DTensor& other);
/// sqrt(input^2 + other^2), without overflow.
DTENSOR_EXPORT DTensor hypot(const DTensor& input, const DTensor& other);
/// Magnitude of input, sign of other.
DTENSOR_EXPORT DTensor copysign(const DTensor& input, const DTensor& other);
/// The larger (smaller), the other one where one is NaN. Any dtype, kept.
DTENSOR_EXPORT DTensor fmax(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor fmin(const DTensor& input, const DTensor& other);
/// 0 below 0, 1 above, `values` at 0. One dtype, kept.
DTENSOR_EXPORT DTensor heaviside(const DTensor& input, const DTensor& values);
/// div with rounding_mode floor, and div.
DTENSOR_EXPORT DTensor floor_divide(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor true_divide(const DTensor& input, const DTensor& other);
/// Integers.
DTENSOR_EXPORT DTensor bitwise_left_shift(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor bitwise_right_shift(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor gcd(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor lcm(const DTensor& input, const DTensor& other);

}  // namespace dtensor
