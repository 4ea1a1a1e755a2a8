// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/optimizer.h on the device of their tensors.
#pragma once

#include "local/cpu/optimizer.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel adam_step{"adam_step", cpu::adam_step};
inline Kernel sgd_step{"sgd_step", cpu::sgd_step};

}  // namespace dtensor::local::kernels
