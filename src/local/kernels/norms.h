// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/norms.h on the device of their tensors.
#pragma once

#include "local/cpu/norms.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel layer_norm{"layer_norm", cpu::layer_norm};
inline Kernel layer_norm_backward{"layer_norm_backward", cpu::layer_norm_backward};
inline Kernel rms_norm{"rms_norm", cpu::rms_norm};
inline Kernel rms_norm_backward{"rms_norm_backward", cpu::rms_norm_backward};

}  // namespace dtensor::local::kernels
