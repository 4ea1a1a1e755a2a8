// SPDX-License-Identifier: Apache-2.0
// Normalisation over the last dimensions. Computed in f32 for bf16 and f16, converted once. When a normalised dimension is split, sums are reduced and the
// operand stays where it is. Collective over the mesh of the input.
#pragma once

#include <optional>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

/// (x - mean) / sqrt(variance + eps) * weight + bias over the last normalized_shape.ndim() dimensions; weight and bias have that shape, an empty one is absent.
/// @throws InvalidArgument when shapes do not fit.
DTENSOR_EXPORT DTensor layer_norm(const DTensor& input, const Shape& normalized_shape, const DTensor& weight = {}, const DTensor& bias = {},
                                  double eps = 1e-5);
/// x / sqrt(mean(x^2) + eps) * weight; eps defaults to the machine epsilon of the dtype of computation.
DTENSOR_EXPORT DTensor rms_norm(const DTensor& input, const Shape& normalized_shape, const DTensor& weight = {}, std::optional<double> eps = {});

}  // namespace dtensor
