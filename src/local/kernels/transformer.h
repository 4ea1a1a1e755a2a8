// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/transformer.h on the device of their tensors.
#pragma once

#include "local/cpu/transformer.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel alibi_table{"alibi_table", cpu::alibi_table};
inline Kernel sum_bags{"sum_bags", cpu::sum_bags};
inline Kernel sum_bags_backward{"sum_bags_backward", cpu::sum_bags_backward};
inline Kernel bag_dots{"bag_dots", cpu::bag_dots};

}  // namespace dtensor::local::kernels
