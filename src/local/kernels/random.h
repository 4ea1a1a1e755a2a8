// SPDX-License-Identifier: Apache-2.0
// The functions of local/random.h on the device of their tensors.
#pragma once

#include "local/kernel.h"
#include "local/random.h"

namespace dtensor::local::kernels {

inline Kernel fill_uniform{"fill_uniform", local::fill_uniform};
inline Kernel fill_normal{"fill_normal", local::fill_normal};
inline Kernel fill_keep_mask{"fill_keep_mask", local::fill_keep_mask};
inline Kernel fill_integers{"fill_integers", local::fill_integers};
inline Kernel fill_words{"fill_words", local::fill_words};

}  // namespace dtensor::local::kernels
