// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/pooling.h on the device of their tensors.
#pragma once

#include "local/cpu/pooling.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel average_windows{"average_windows", cpu::average_windows};
inline Kernel average_windows_backward{"average_windows_backward", cpu::average_windows_backward};
inline Kernel max_windows{"max_windows", cpu::max_windows};
inline Kernel add_at_indices{"add_at_indices", cpu::add_at_indices};
inline Kernel take_positions{"take_positions", cpu::take_positions};
inline Kernel add_positions{"add_positions", cpu::add_positions};

}  // namespace dtensor::local::kernels
