// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/scans.h on the device of their tensors.
#pragma once

#include "local/cpu/scans.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel cumulative_product{"cumulative_product", cpu::cumulative_product};
inline Kernel cumulative_product_backward{"cumulative_product_backward", cpu::cumulative_product_backward};
inline Kernel cumulative_extreme{"cumulative_extreme", cpu::cumulative_extreme};
inline Kernel cumulative_extreme_backward{"cumulative_extreme_backward", cpu::cumulative_extreme_backward};
inline Kernel cumulative_log_sum{"cumulative_log_sum", cpu::cumulative_log_sum};
inline Kernel cumulative_log_sum_backward{"cumulative_log_sum_backward", cpu::cumulative_log_sum_backward};

}  // namespace dtensor::local::kernels
