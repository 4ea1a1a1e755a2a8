// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/sampling.h on the device of their tensors.
#pragma once

#include "local/cpu/sampling.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel choose{"choose", cpu::choose};
inline Kernel choose_classes{"choose_classes", cpu::choose_classes};

}  // namespace dtensor::local::kernels
