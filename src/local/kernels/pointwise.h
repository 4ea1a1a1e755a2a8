// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/pointwise.h on the device of their tensors.
#pragma once

#include "local/cpu/pointwise.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel unary{"unary", cpu::unary};
inline Kernel unary_backward{"unary_backward", cpu::unary_backward};
inline Kernel swiglu{"swiglu", cpu::swiglu};
inline Kernel swiglu_backward{"swiglu_backward", cpu::swiglu_backward};

}  // namespace dtensor::local::kernels
