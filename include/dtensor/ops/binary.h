// SPDX-License-Identifier: Apache-2.0
// Arithmetic of two tensors, or of a tensor and a number. Shapes broadcast as in NumPy; dtypes promote as in PyTorch (promote() in values.h; a tensor
// without dimensions, like a number, counts by its category only). Integers wrap around. Numbers are not part of the cached plan, their kind is.
// Collective over the mesh of the inputs. What stays Partial: add and sub (all operands alike), mul (one of the two), div (the numerator), a product with or
// quotient by a number. Adding a number is not linear: the Partial operand is reduced first.
// @throws InvalidArgument for shapes that do not broadcast, tensors of different meshes, bool where arithmetic is meant (sub).
#pragma once

#include <string_view>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

struct AddOptions {
  Scalar alpha = 1;  ///< factor of `other`
};
/// input + alpha * other
DTENSOR_EXPORT DTensor add(const DTensor& input, const DTensor& other, const AddOptions& options = {});
DTENSOR_EXPORT DTensor add(const DTensor& input, const Scalar& other, const AddOptions& options = {});
/// input - alpha * other
DTENSOR_EXPORT DTensor sub(const DTensor& input, const DTensor& other, const AddOptions& options = {});
DTENSOR_EXPORT DTensor sub(const DTensor& input, const Scalar& other, const AddOptions& options = {});
/// other - alpha * input
DTENSOR_EXPORT DTensor rsub(const DTensor& input, const DTensor& other, const AddOptions& options = {});
DTENSOR_EXPORT DTensor rsub(const DTensor& input, const Scalar& other, const AddOptions& options = {});
DTENSOR_EXPORT DTensor mul(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor mul(const DTensor& input, const Scalar& other);

struct DivOptions {
  std::string_view rounding_mode = "";  ///< "" (a real quotient, integers become f32), "trunc" or "floor"
};
/// An integer divided by zero with rounding ends the run.
DTENSOR_EXPORT DTensor div(const DTensor& input, const DTensor& other, const DivOptions& options = {});
DTENSOR_EXPORT DTensor div(const DTensor& input, const Scalar& other, const DivOptions& options = {});
DTENSOR_EXPORT DTensor div(const Scalar& input, const DTensor& other);

/// NaN wins; equal elements share the gradient.
DTENSOR_EXPORT DTensor maximum(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor minimum(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor pow(const DTensor& input, const DTensor& exponent);
DTENSOR_EXPORT DTensor pow(const DTensor& input, const Scalar& exponent);
DTENSOR_EXPORT DTensor pow(const Scalar& input, const DTensor& exponent);
/// The angle of (other, input); integers become f32.
DTENSOR_EXPORT DTensor atan2(const DTensor& input, const DTensor& other);
/// Sign of the divisor (remainder) or of the dividend (fmod).
DTENSOR_EXPORT DTensor remainder(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor remainder(const DTensor& input, const Scalar& other);
DTENSOR_EXPORT DTensor fmod(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor fmod(const DTensor& input, const Scalar& other);
/// Integers and bool.
DTENSOR_EXPORT DTensor bitwise_and(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor bitwise_or(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor bitwise_xor(const DTensor& input, const DTensor& other);

struct ValueOptions {
  Scalar value = 1;
};
/// input + value * tensor1 * tensor2
DTENSOR_EXPORT DTensor addcmul(const DTensor& input, const DTensor& tensor1, const DTensor& tensor2, const ValueOptions& options = {});
/// input + value * tensor1 / tensor2; one of the two divided is floating
DTENSOR_EXPORT DTensor addcdiv(const DTensor& input, const DTensor& tensor1, const DTensor& tensor2, const ValueOptions& options = {});
/// input + weight * (end - input); floating dtypes
DTENSOR_EXPORT DTensor lerp(const DTensor& input, const DTensor& end, const DTensor& weight);
DTENSOR_EXPORT DTensor lerp(const DTensor& input, const DTensor& end, const Scalar& weight);

inline DTensor operator+(const DTensor& a, const DTensor& b) { return add(a, b); }
inline DTensor operator+(const DTensor& a, const Scalar& b) { return add(a, b); }
inline DTensor operator+(const Scalar& a, const DTensor& b) { return add(b, a); }
inline DTensor operator-(const DTensor& a, const DTensor& b) { return sub(a, b); }
inline DTensor operator-(const DTensor& a, const Scalar& b) { return sub(a, b); }
inline DTensor operator-(const Scalar& a, const DTensor& b) { return rsub(b, a); }
inline DTensor operator*(const DTensor& a, const DTensor& b) { return mul(a, b); }
inline DTensor operator*(const DTensor& a, const Scalar& b) { return mul(a, b); }
inline DTensor operator*(const Scalar& a, const DTensor& b) { return mul(b, a); }
inline DTensor operator/(const DTensor& a, const DTensor& b) { return div(a, b); }
inline DTensor operator/(const DTensor& a, const Scalar& b) { return div(a, b); }
inline DTensor operator/(const Scalar& a, const DTensor& b) { return div(a, b); }
DTENSOR_EXPORT DTensor operator-(const DTensor& a);

}  // namespace dtensor
