// SPDX-License-Identifier: Apache-2.0
// What stands in the place of cuDNN: as tests want it.
#pragma once

#include "local/cuda/toolkit/cudnn.h"

namespace dtensor::local::cuda::emulated {

/// Whether there is one (default: yes).
void set_cudnn(bool present);
/// What is refused from now on: plans, as of operations without an algorithm, or their runs.
enum class CudnnRefusal { nothing, plans, runs };
void refuse_cudnn(CudnnRefusal what);
/// The shape of the last plan of a convolution that was made or refused.
ConvolutionShape last_convolution();
/// The same of attention.
AttentionShape last_attention();

}  // namespace dtensor::local::cuda::emulated
