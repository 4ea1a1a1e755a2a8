// SPDX-License-Identifier: Apache-2.0
// Convolutions by cuDNN, where there is one and it has an algorithm.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "local/cpu/convolution_sizes.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/toolkit/cudnn.h"

namespace dtensor::local::cuda {

/// As cuDNN is asked for it, alignments left out; empty: what it cannot say or would count in too few bits.
std::optional<ConvolutionShape> convolution_shape(ConvolutionResult result, const cpu::ConvolutionSizes& sizes, Dtype dtype);

/// The result, of a floating dtype, from the other two of image, weight and map; the bias is the result's, null: none. False: it is left to
/// others, who write all of the result.
bool library_convolution(ConvolutionResult result, const cpu::ConvolutionSizes& sizes, RankDevice& device, Dtype dtype, ConvolutionPointers p);

}  // namespace dtensor::local::cuda
