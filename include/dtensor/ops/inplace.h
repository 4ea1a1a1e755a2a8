// SPDX-License-Identifier: Apache-2.0
// Forms that write their first argument and return it. It keeps shape, dtype and placement; the other operands are brought to it. Collective over its mesh.
// @throws InvalidArgument when an operand does not broadcast to it, when a floating operand meets an integer self, or when it is Partial and the op is
// not linear in it (add_, sub_, lerp_, zero_, copy_ keep Partial; mul_ and div_ with a Replicate operand or a number do).
#pragma once

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/pointwise.h"

namespace dtensor {

DTENSOR_EXPORT DTensor add_(const DTensor& self, const DTensor& other, const AddOptions& options = {});
DTENSOR_EXPORT DTensor add_(const DTensor& self, const Scalar& other, const AddOptions& options = {});
DTENSOR_EXPORT DTensor sub_(const DTensor& self, const DTensor& other, const AddOptions& options = {});
DTENSOR_EXPORT DTensor sub_(const DTensor& self, const Scalar& other, const AddOptions& options = {});
DTENSOR_EXPORT DTensor mul_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor mul_(const DTensor& self, const Scalar& other);
DTENSOR_EXPORT DTensor div_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor div_(const DTensor& self, const Scalar& other);
/// Elements of `source`, broadcast and converted. Works on the source that are in flight are waited for.
DTENSOR_EXPORT DTensor copy_(const DTensor& self, const DTensor& source);
DTENSOR_EXPORT DTensor fill_(const DTensor& self, const Scalar& value);
DTENSOR_EXPORT DTensor zero_(const DTensor& self);
DTENSOR_EXPORT DTensor addcmul_(const DTensor& self, const DTensor& tensor1, const DTensor& tensor2, const ValueOptions& options = {});
DTENSOR_EXPORT DTensor addcdiv_(const DTensor& self, const DTensor& tensor1, const DTensor& tensor2, const ValueOptions& options = {});
DTENSOR_EXPORT DTensor lerp_(const DTensor& self, const DTensor& end, const Scalar& weight);
DTENSOR_EXPORT DTensor clamp_(const DTensor& self, const ClampOptions& options);
DTENSOR_EXPORT DTensor relu_(const DTensor& self);
DTENSOR_EXPORT DTensor neg_(const DTensor& self);
DTENSOR_EXPORT DTensor sqrt_(const DTensor& self);
DTENSOR_EXPORT DTensor abs_(const DTensor& self);
DTENSOR_EXPORT DTensor sign_(const DTensor& self);
DTENSOR_EXPORT DTensor square_(const DTensor& self);
DTENSOR_EXPORT DTensor floor_(const DTensor& self);
DTENSOR_EXPORT DTensor ceil_(const DTensor& self);
DTENSOR_EXPORT DTensor trunc_(const DTensor& self);
DTENSOR_EXPORT DTensor round_(const DTensor& self);
DTENSOR_EXPORT DTensor exp_(const DTensor& self);
DTENSOR_EXPORT DTensor expm1_(const DTensor& self);
DTENSOR_EXPORT DTensor log_(const DTensor& self);
DTENSOR_EXPORT DTensor log1p_(const DTensor& self);
DTENSOR_EXPORT DTensor log2_(const DTensor& self);
DTENSOR_EXPORT DTensor rsqrt_(const DTensor& self);
DTENSOR_EXPORT DTensor reciprocal_(const DTensor& self);
DTENSOR_EXPORT DTensor sin_(const DTensor& self);
DTENSOR_EXPORT DTensor cos_(const DTensor& self);
DTENSOR_EXPORT DTensor tan_(const DTensor& self);
DTENSOR_EXPORT DTensor tanh_(const DTensor& self);
DTENSOR_EXPORT DTensor sigmoid_(const DTensor& self);
DTENSOR_EXPORT DTensor erf_(const DTensor& self);
DTENSOR_EXPORT DTensor silu_(const DTensor& self);
DTENSOR_EXPORT DTensor asin_(const DTensor& self);
DTENSOR_EXPORT DTensor acos_(const DTensor& self);
DTENSOR_EXPORT DTensor atan_(const DTensor& self);
DTENSOR_EXPORT DTensor sinh_(const DTensor& self);
DTENSOR_EXPORT DTensor cosh_(const DTensor& self);
DTENSOR_EXPORT DTensor asinh_(const DTensor& self);
DTENSOR_EXPORT DTensor acosh_(const DTensor& self);
DTENSOR_EXPORT DTensor atanh_(const DTensor& self);
DTENSOR_EXPORT DTensor erfc_(const DTensor& self);
DTENSOR_EXPORT DTensor erfinv_(const DTensor& self);
DTENSOR_EXPORT DTensor exp2_(const DTensor& self);
DTENSOR_EXPORT DTensor log10_(const DTensor& self);
DTENSOR_EXPORT DTensor frac_(const DTensor& self);
DTENSOR_EXPORT DTensor sinc_(const DTensor& self);
DTENSOR_EXPORT DTensor lgamma_(const DTensor& self);
DTENSOR_EXPORT DTensor digamma_(const DTensor& self);
DTENSOR_EXPORT DTensor pow_(const DTensor& self, const DTensor& exponent);
DTENSOR_EXPORT DTensor pow_(const DTensor& self, const Scalar& exponent);
DTENSOR_EXPORT DTensor remainder_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor remainder_(const DTensor& self, const Scalar& other);
DTENSOR_EXPORT DTensor fmod_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor fmod_(const DTensor& self, const Scalar& other);
DTENSOR_EXPORT DTensor floor_divide_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor floor_divide_(const DTensor& self, const Scalar& other);
DTENSOR_EXPORT DTensor atan2_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor bitwise_and_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor bitwise_or_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor bitwise_xor_(const DTensor& self, const DTensor& other);
/// 1 where it holds, else 0, in self's dtype.
DTENSOR_EXPORT DTensor eq_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor ne_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor lt_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor le_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor gt_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor ge_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor logical_and_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor logical_or_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor logical_xor_(const DTensor& self, const DTensor& other);
DTENSOR_EXPORT DTensor masked_fill_(const DTensor& self, const DTensor& mask, const Scalar& value);

}  // namespace dtensor
