// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/binary.h on the device of their tensors.
#pragma once

#include "local/cpu/binary.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel binary{"binary", cpu::binary};
inline Kernel compare{"compare", cpu::compare};
inline Kernel where{"where", cpu::where};
inline Kernel ternary{"ternary", cpu::ternary};

}  // namespace dtensor::local::kernels
