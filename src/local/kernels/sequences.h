// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/sequences.h on the device of their tensors.
#pragma once

#include "local/cpu/sequences.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel fill_steps{"fill_steps", cpu::fill_steps};
inline Kernel fill_diagonal{"fill_diagonal", cpu::fill_diagonal};
inline Kernel clear_triangle{"clear_triangle", cpu::clear_triangle};

}  // namespace dtensor::local::kernels
