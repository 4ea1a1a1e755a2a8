// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dtensor/distributed_tensor.h"
#include "dtensor/values.h"

namespace dtensor::ops {

/// sum(exp(input - shift)) over `dims` in the dtype of computation; Partial(sum) where they are split. An infinite shift counts as 0.
DTensor exp_sum(const DTensor& input, const DTensor& shift, const Shape& dims, bool keepdim);

}  // namespace dtensor::ops
