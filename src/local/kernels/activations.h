// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/activations.h on the device of their tensors.
#pragma once

#include "local/cpu/activations.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel activation{"activation", cpu::activation};
inline Kernel activation_backward{"activation_backward", cpu::activation_backward};
inline Kernel elementary{"elementary", cpu::elementary};
inline Kernel pair{"pair", cpu::pair};

}  // namespace dtensor::local::kernels
