// SPDX-License-Identifier: Apache-2.0
// Cross-entropy from hidden states: linear and cross_entropy in one, without the logits of all rows in memory at any time.
#pragma once

#include <cstdint>
#include <string_view>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

struct LinearCrossEntropyOptions {
  std::int64_t ignore_index = -100;     ///< rows with this target count nothing
  std::string_view reduction = "mean";  ///< mean over the rows that count, sum, none
};
/// cross_entropy(linear(input, weight), target): input [..., width], weight [classes, width], target [...] i64. The result is f32 (f64 for f64). The logits
/// are computed again in the gradient. Rows may be split freely; over split classes, numbers per row are reduced and logits never move.
/// Collective over the mesh of the input. @throws InvalidArgument for shapes that do not fit, a target that is no class.
DTENSOR_EXPORT DTensor linear_cross_entropy(const DTensor& input, const DTensor& weight, const DTensor& target,
                                            const LinearCrossEntropyOptions& options = {});

}  // namespace dtensor
