// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/channel_norms.h on the device of their tensors.
#pragma once

#include "local/cpu/channel_norms.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel channel_norm{"channel_norm", cpu::channel_norm};
inline Kernel channel_norm_apply{"channel_norm_apply", cpu::channel_norm_apply};
inline Kernel channel_norm_backward{"channel_norm_backward", cpu::channel_norm_backward};
inline Kernel running_average{"running_average", cpu::running_average};
inline Kernel channel_sums{"channel_sums", cpu::channel_sums};
inline Kernel channel_norm_sums{"channel_norm_sums", cpu::channel_norm_sums};
inline Kernel channel_norm_input_gradient{"channel_norm_input_gradient", cpu::channel_norm_input_gradient};

}  // namespace dtensor::local::kernels
