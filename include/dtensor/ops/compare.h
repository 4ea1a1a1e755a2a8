// SPDX-License-Identifier: Apache-2.0
// Comparison, logic and selection. Shapes broadcast, dtypes promote for the comparison; results of comparisons are bool and have no derivative.
// Collective over the mesh of the inputs; Partial inputs are reduced first, but where() keeps two tensors that are Partial alike.
// @throws InvalidArgument for shapes that do not broadcast or a condition or mask that is not bool.
#pragma once

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

DTENSOR_EXPORT DTensor eq(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor eq(const DTensor& input, const Scalar& other);
DTENSOR_EXPORT DTensor ne(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor ne(const DTensor& input, const Scalar& other);
DTENSOR_EXPORT DTensor lt(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor lt(const DTensor& input, const Scalar& other);
DTENSOR_EXPORT DTensor le(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor le(const DTensor& input, const Scalar& other);
DTENSOR_EXPORT DTensor gt(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor gt(const DTensor& input, const Scalar& other);
DTENSOR_EXPORT DTensor ge(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor ge(const DTensor& input, const Scalar& other);

/// Of truth values: an element is true when it is not zero.
DTENSOR_EXPORT DTensor logical_and(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor logical_or(const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor logical_xor(const DTensor& input, const DTensor& other);

struct IsCloseOptions {
  double rtol = 1e-5, atol = 1e-8;
  bool equal_nan = false;
};
/// |input - other| <= atol + rtol * |other|
DTENSOR_EXPORT DTensor isclose(const DTensor& input, const DTensor& other, const IsCloseOptions& options = {});

/// condition ? input : other
DTENSOR_EXPORT DTensor where(const DTensor& condition, const DTensor& input, const DTensor& other);
DTENSOR_EXPORT DTensor where(const DTensor& condition, const DTensor& input, const Scalar& other);
DTENSOR_EXPORT DTensor where(const DTensor& condition, const Scalar& input, const DTensor& other);
DTENSOR_EXPORT DTensor where(const DTensor& condition, const Scalar& input, const Scalar& other);
/// `value` where the mask is true; the dtype of input is kept.
DTENSOR_EXPORT DTensor masked_fill(const DTensor& input, const DTensor& mask, const Scalar& value);
/// `value` has no dimensions.
DTENSOR_EXPORT DTensor masked_fill(const DTensor& input, const DTensor& mask, const DTensor& value);

}  // namespace dtensor
