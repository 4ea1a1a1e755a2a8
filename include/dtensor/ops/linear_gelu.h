// SPDX-License-Identifier: Apache-2.0
// linear and gelu in one pass over the result, as in the feed-forward half of a transformer.
#pragma once

#include "dtensor/distributed_tensor.h"

namespace dtensor {

/// gelu(linear(input, weight, bias)) with gelu's tanh form: input [..., k], weight [n, k], bias [n] or absent -> [..., n]. Floating, one dtype. gelu may be
/// taken of the sum before that is rounded. Placements as linear's, but no result is Partial: with k split the sums are reduced first. Where a gradient is
/// recorded they are kept for it. PyTorch's _addmm_activation with use_gelu.
/// @throws InvalidArgument as linear, and for a weight that has not two dims.
DTENSOR_EXPORT DTensor linear_gelu(const DTensor& input, const DTensor& weight, const DTensor& bias = {});

}  // namespace dtensor
