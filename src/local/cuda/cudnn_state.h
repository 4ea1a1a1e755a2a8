// SPDX-License-Identifier: Apache-2.0
// cuDNN as the calling rank has it.
#pragma once

#include <string>

#include "local/cuda/plan_cache.h"
#include "local/cuda/toolkit/cudnn.h"

namespace dtensor::local::cuda {

/// Whether there is a cuDNN and DTENSOR_CUDNN does not forbid it (0).
bool uses_cudnn();
/// Its version, or why it is not used.
std::string cudnn_text();
/// For a device, which is the thread's. Null: it does not work there.
CudnnLibrary* cudnn_of(Device device);

}  // namespace dtensor::local::cuda
