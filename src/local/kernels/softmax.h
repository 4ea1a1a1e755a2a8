// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/softmax.h on the device of their tensors.
#pragma once

#include "local/cpu/softmax.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel softmax{"softmax", cpu::softmax};
inline Kernel softmax_backward{"softmax_backward", cpu::softmax_backward};
inline Kernel exp_sum{"exp_sum", cpu::exp_sum};
inline Kernel log_sum_exp{"log_sum_exp", cpu::log_sum_exp};

}  // namespace dtensor::local::kernels
