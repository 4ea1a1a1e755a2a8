// SPDX-License-Identifier: Apache-2.0
// Losses. reduction: "mean" (over the targets that count), "sum" or "none". Collective over the mesh of the input.
#pragma once

#include <cstdint>
#include <string_view>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

struct CrossEntropyOptions {
  DTensor weight = {};               ///< [C]: of each class; "mean" divides by the weights of the targets that count
  std::int64_t ignore_index = -100;  ///< targets of this value give neither loss nor gradient
  std::string_view reduction = "mean";
  double label_smoothing = 0;
};
/// -log softmax(input)[target]. input [C], [N, C] or [N, C, ...]; target i64 without the class dimension. When the classes are split, maxima, sums and
/// the logits of the targets are reduced; the logits stay where they are, and backward needs no communication.
/// A floating target of the input's shape holds probabilities of the classes ("mean" divides by the number of rows; no ignore_index). With a weight or
/// with probabilities the logarithms of the softmax are in memory.
/// A target outside [0, C) that is not ignore_index ends the run.
DTENSOR_EXPORT DTensor cross_entropy(const DTensor& input, const DTensor& target, const CrossEntropyOptions& options = {});

struct NllLossOptions {
  DTensor weight = {};  ///< [C], as for cross_entropy
  std::int64_t ignore_index = -100;
  std::string_view reduction = "mean";
};
/// -input[target]: the same for logarithms of probabilities.
DTENSOR_EXPORT DTensor nll_loss(const DTensor& input, const DTensor& target, const NllLossOptions& options = {});

struct MseLossOptions {
  std::string_view reduction = "mean";
};
/// (input - target)^2; shapes broadcast.
DTENSOR_EXPORT DTensor mse_loss(const DTensor& input, const DTensor& target, const MseLossOptions& options = {});

}  // namespace dtensor
