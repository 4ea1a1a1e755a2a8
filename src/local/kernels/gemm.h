// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/gemm.h on the device of their tensors.
#pragma once

#include "local/cpu/gemm.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel gemm{"gemm", cpu::gemm};
inline Kernel linear_gelu{"linear_gelu", cpu::linear_gelu};

}  // namespace dtensor::local::kernels
