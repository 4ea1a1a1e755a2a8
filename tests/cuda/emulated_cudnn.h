// SPDX-License-Identifier: Apache-2.0
// What stands in the place of cuDNN: as tests want it.
#pragma once

#include "local/cuda/toolkit/cudnn.h"

namespace dtensor::local::cuda::emulated {

/// Whether there is one (default: yes).
void set_cudnn(bool present);
/// The next plans are refused until this is called again, as for operations without an algorithm.
void refuse_cudnn_plans(bool refused);
/// The shape of the last plan of a convolution that was made or refused.
ConvolutionShape last_convolution();
/// The same of attention.
AttentionShape last_attention();

}  // namespace dtensor::local::cuda::emulated
