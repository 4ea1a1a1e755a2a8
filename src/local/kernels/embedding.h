// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/embedding.h on the device of their tensors.
#pragma once

#include "local/cpu/embedding.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel resolve_positions{"resolve_positions", cpu::resolve_positions};
inline Kernel add_positions_to{"add_positions_to", cpu::add_positions_to};
inline Kernel count_positions{"count_positions", cpu::count_positions};
inline Kernel mark_positions{"mark_positions", cpu::mark_positions};
inline Kernel take_rows{"take_rows", cpu::take_rows};
inline Kernel deposit_rows{"deposit_rows", cpu::deposit_rows};
inline Kernel put_rows{"put_rows", cpu::put_rows};
inline Kernel take_elements{"take_elements", cpu::take_elements};
inline Kernel deposit_elements{"deposit_elements", cpu::deposit_elements};
inline Kernel combine_elements{"combine_elements", cpu::combine_elements};
inline Kernel put_elements{"put_elements", cpu::put_elements};
inline Kernel take_points{"take_points", cpu::take_points};
inline Kernel deposit_points{"deposit_points", cpu::deposit_points};
inline Kernel put_points{"put_points", cpu::put_points};

}  // namespace dtensor::local::kernels
