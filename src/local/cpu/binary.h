// SPDX-License-Identifier: Apache-2.0
// Two or three inputs (tensors or numbers, broadcast) -> one result. Types as the results' dtype says (compute_type); comparisons compute in `type`.
#pragma once

#include "dtensor/tensor.h"
#include "dtensor/values.h"
#include "local/kernel.h"

namespace dtensor::local::cpu {

/// A tensor or a number.
struct Value {
  Value(const Tensor& t) noexcept : tensor(&t) {}  // NOLINT(google-explicit-constructor)
  Value(const Scalar& s) noexcept : number(s) {}   // NOLINT(google-explicit-constructor)
  const Tensor* tensor = nullptr;
  Scalar number{};
};
inline Side side_of(const Value& v) noexcept { return local::side_of(v.tensor); }

enum class Binary {
  add,
  sub,
  mul,
  div,
  div_floor,
  div_trunc,
  maximum,
  minimum,
  pow,
  atan2,
  remainder,
  fmod,  // add, sub: alpha
  bitwise_and,
  bitwise_or,
  bitwise_xor
};
/// Integers wrap around; NaN wins in maximum and minimum. @throws std::domain_error for an integer divided by zero or to a negative power.
void binary(Binary op, const Value& a, const Value& b, const Tensor& out, const Scalar* numbers = nullptr);

enum class Compare { eq, ne, lt, le, gt, ge, logical_and, logical_or, logical_xor, isclose };  // isclose: rtol, atol, equal_nan
/// out is bool. Both sides are seen as `type` (f32, f64, i64).
void compare(Compare op, const Value& a, const Value& b, Dtype type, const Tensor& out, const Scalar* numbers = nullptr);

/// condition ? a : b
void where(const Tensor& condition, const Value& a, const Value& b, const Tensor& out);

enum class Ternary { clamp, lerp, addcmul, addcdiv };  // clamp: (x, min, max); lerp: (start, end, weight); addcmul, addcdiv: value
void ternary(Ternary op, const Value& a, const Value& b, const Value& c, const Tensor& out, const Scalar* numbers = nullptr);

}  // namespace dtensor::local::cpu
