// SPDX-License-Identifier: Apache-2.0
// Copies of local/cpu/map.h on the device of their tensors.
#pragma once

#include "local/cpu/map.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel convert{"convert", cpu::convert};
inline Kernel fill{"fill", cpu::fill};

}  // namespace dtensor::local::kernels
