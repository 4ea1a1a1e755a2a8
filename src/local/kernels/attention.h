// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/attention.h on the device of their tensors.
#pragma once

#include "local/cpu/attention.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel attention{"attention", cpu::attention};
inline Kernel attention_backward{"attention_backward", cpu::attention_backward};

}  // namespace dtensor::local::kernels
