// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/losses.h on the device of their tensors.
#pragma once

#include "local/cpu/losses.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel cross_entropy_rows{"cross_entropy_rows", cpu::cross_entropy_rows};
inline Kernel cross_entropy_backward{"cross_entropy_backward", cpu::cross_entropy_backward};
inline Kernel target_logit{"target_logit", cpu::target_logit};
inline Kernel count_targets{"count_targets", cpu::count_targets};
inline Kernel squared_error{"squared_error", cpu::squared_error};

}  // namespace dtensor::local::kernels
