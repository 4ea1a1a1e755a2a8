// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/sorting.h on the device of their tensors.
#pragma once

#include "local/cpu/sorting.h"
#include "local/kernel.h"

namespace dtensor::local::kernels {

inline Kernel order_lines{"order_lines", cpu::order_lines};
inline Kernel search_lines{"search_lines", cpu::search_lines};
inline Kernel distinct{"distinct", cpu::distinct};
inline Kernel nonzero_places{"nonzero_places", cpu::nonzero_places};
inline Kernel histogram{"histogram", cpu::histogram};

}  // namespace dtensor::local::kernels
