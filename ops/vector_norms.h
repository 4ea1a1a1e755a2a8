// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dtensor/distributed_tensor.h"

namespace dtensor::ops {

/// Sum of the squares of all elements, in `dtype`: Partial where the tensor is split.
DTensor square_sum(const DTensor& input, Dtype dtype);

}  // namespace dtensor::ops
