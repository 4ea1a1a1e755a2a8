// SPDX-License-Identifier: Apache-2.0
// Conversion of elements.
#pragma once

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

/// Same shape and placement, elements converted: to nearest even between floating dtypes, towards zero to integers, != 0 to bool. A Partial(sum, avg) input stays
/// Partial only where nothing is rounded (to a wider floating dtype). Differentiable between floating dtypes. Returns the input when the dtype is its own.
/// Collective over the input's mesh.
DTENSOR_EXPORT DTensor to(const DTensor& input, Dtype dtype);

}  // namespace dtensor
