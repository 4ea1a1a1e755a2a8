// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/arrange.h on the device of their tensors.
#pragma once

#include "local/cpu/arrange.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel take_grid{"take_grid", cpu::take_grid};
inline Kernel add_windows{"add_windows", cpu::add_windows};

}  // namespace dtensor::local::kernels
