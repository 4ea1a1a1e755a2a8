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
DTENSOR_EXPORT DTensor masked_fill_(const DTensor& self, const DTensor& mask, const Scalar& value);

}  // namespace dtensor
