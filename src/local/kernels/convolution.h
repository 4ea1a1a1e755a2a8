// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/convolution.h on the device of their tensors.
#pragma once

#include "local/cpu/convolution.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel convolution{"convolution", cpu::convolution};
inline Kernel convolution_input_gradient{"convolution_input_gradient", cpu::convolution_input_gradient};
inline Kernel convolution_weight_gradient{"convolution_weight_gradient", cpu::convolution_weight_gradient};

}  // namespace dtensor::local::kernels
