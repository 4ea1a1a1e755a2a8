// SPDX-License-Identifier: Apache-2.0
// Losses with class weights or with probabilities as targets, as expressions of other ops.
#pragma once

#include "dtensor/ops/losses.h"

namespace dtensor::ops {

/// cross_entropy of targets that are probabilities, or with a weight.
DTensor weighted_cross_entropy(const DTensor& input, const DTensor& target, const CrossEntropyOptions& options);
/// nll_loss with a weight.
DTensor weighted_nll_loss(const DTensor& input, const DTensor& target, const NllLossOptions& options);

}  // namespace dtensor::ops
