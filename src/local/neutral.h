// SPDX-License-Identifier: Apache-2.0
// The element e with e op x = x: what an empty or absent part of a Partial tensor holds.
#pragma once

#include "dtensor/placement.h"
#include "dtensor/tensor.h"
#include "local/reduce_boxes.h"

namespace dtensor::local {

/// -0.0 for a floating sum and avg (so that -0.0 stays -0.0), 0 for an integer one, 1 for product, the upper end of the type for min (infinity, the
/// maximum, true), the lower for max, all bits for band, none for bor and bxor. @throws InvalidArgument for a pair that is not legal (is_reducible).
Scalar neutral(ReduceOp op, Dtype dtype);
/// Fills `out` with it. An in-place write.
void fill_neutral(const Tensor& out, ReduceOp op);

}  // namespace dtensor::local
