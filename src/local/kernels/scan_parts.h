// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/scan_parts.h on the device of their tensors.
#pragma once

#include "local/cpu/scan_parts.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel scan_totals{"scan_totals", cpu::scan_totals};
inline Kernel scan_from{"scan_from", cpu::scan_from};

}  // namespace dtensor::local::kernels
