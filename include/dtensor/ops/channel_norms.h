// SPDX-License-Identifier: Apache-2.0
// Normalisation by channels. Input [N, C, sizes...]; weight and bias [C] or empty. Computed in f32 for bf16 and f16, converted once. Where the elements that
// share a mean are split over ranks, sums are reduced and the input stays where it is. Collective over the mesh of the input.
// @throws InvalidArgument when shapes do not fit.
#pragma once

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

/// Mean and variance over C / num_groups channels and all sizes of each sample.
DTENSOR_EXPORT DTensor group_norm(const DTensor& input, std::int64_t num_groups, const DTensor& weight = {}, const DTensor& bias = {},
                                  double eps = 1e-5);

struct BatchNormOptions {
  bool training = false;  ///< statistics of the batch; else the running ones
  double momentum = 0.1;  ///< share of the batch in the new running statistics
  double eps = 1e-5;
};
struct BatchNorm {
  DTensor out;
  DTensor running_mean,
      running_var;  ///< after this call; the variance is the unbiased one. Nothing is written in place, and no gradient flows to them
};
/// Mean and variance of each channel over samples and sizes. Empty running statistics count as mean 0 and variance 0 and are required when not training.
DTENSOR_EXPORT BatchNorm batch_norm(const DTensor& input, const DTensor& running_mean, const DTensor& running_var, const DTensor& weight = {},
                                    const DTensor& bias = {}, const BatchNormOptions& options = {});

/// Mean and variance over the sizes of each sample and channel.
DTENSOR_EXPORT DTensor instance_norm(const DTensor& input, const DTensor& weight = {}, const DTensor& bias = {}, double eps = 1e-5);

}  // namespace dtensor
