// SPDX-License-Identifier: Apache-2.0
// A build without CUDA.
#include "local/device.h"

namespace dtensor::local {

DeviceBackend* cuda_backend() noexcept { return nullptr; }

}  // namespace dtensor::local
