// SPDX-License-Identifier: Apache-2.0
// What stands in the place of cuBLASLt: what it refuses, as tests want it.
#pragma once

#include <functional>

#include "local/cuda/products.h"

namespace dtensor::local::cuda::emulated {

/// Products for which it holds are refused: without an algorithm, or when they run. Empty: those of 29 x 31 x 37 alone.
void refuse_products(std::function<bool(const ProductShape&)> refused, bool when_run = false);

}  // namespace dtensor::local::cuda::emulated
