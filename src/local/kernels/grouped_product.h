// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/grouped_product.h on the device of their tensors.
#pragma once

#include "local/cpu/grouped_product.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel grouped_product{"grouped_product", cpu::grouped_product};
inline Kernel grouped_outer{"grouped_outer", cpu::grouped_outer};

}  // namespace dtensor::local::kernels
