// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/linear_cross_entropy.h on the device of their tensors.
#pragma once

#include "local/cpu/linear_cross_entropy.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel linear_row_max{"linear_row_max", cpu::linear_row_max};
inline Kernel linear_exp_sum{"linear_exp_sum", cpu::linear_exp_sum};
inline Kernel linear_cross_entropy{"linear_cross_entropy", cpu::linear_cross_entropy};
inline Kernel linear_cross_entropy_backward{"linear_cross_entropy_backward", cpu::linear_cross_entropy_backward};

}  // namespace dtensor::local::kernels
