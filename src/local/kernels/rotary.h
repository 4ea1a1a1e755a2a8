// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/rotary.h on the device of their tensors.
#pragma once

#include "local/cpu/rotary.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel rotary{"rotary", cpu::rotary};
inline Kernel rotary_table{"rotary_table", cpu::rotary_table};

}  // namespace dtensor::local::kernels
