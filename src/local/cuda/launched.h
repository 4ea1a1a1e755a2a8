// SPDX-License-Identifier: Apache-2.0
// Errors of launches and of kernels, which show after the call that queued them.
#pragma once

#include <cstddef>
#include <string>

#include "local/cuda/driver.h"

namespace dtensor::local::cuda {

/// After every launch. @throws DeviceError with the op and the kernel for a launch that was refused; with the op at which it was found for a kernel of before
/// that failed. DTENSOR_CUDA_SYNC=1 makes the host wait after every launch, so that the kernel named is the one that failed.
void check_launch(const char* kernel);
/// Whether it does.
bool waits_after_launches();
/// @throws InternalError for a kernel that asks for more shared memory than a block of the stream's device may have.
void check_shared(const char* kernel, std::size_t bytes, Stream stream);
/// "`what`: text", with the op of the calling rank and how to learn which kernel it was when that is not known.
[[noreturn]] void fail_device(const char* what, const std::string& text);

}  // namespace dtensor::local::cuda
