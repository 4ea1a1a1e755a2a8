// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/reduce.h on the device of their tensors.
#pragma once

#include "local/cpu/reduce.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel reduce{"reduce", cpu::reduce};
inline Kernel variance{"variance", cpu::variance};
inline Kernel arg_extreme{"arg_extreme", cpu::arg_extreme};
inline Kernel first_equal{"first_equal", cpu::first_equal};
inline Kernel cumulative_sum{"cumulative_sum", cpu::cumulative_sum};

}  // namespace dtensor::local::kernels
