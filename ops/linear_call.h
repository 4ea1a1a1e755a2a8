// SPDX-License-Identifier: Apache-2.0
// What linear is made of, for ops that begin with it: inputs 0, 1 and 2 are input, weight and bias or absent.
#pragma once

#include <vector>

#include "dtensor/op.h"
#include "local/cpu/gemm.h"

namespace dtensor::ops {

void linear_shape(ShapeCall& s);
/// Into result 0.
local::cpu::GemmCall linear_call(const KernelCall& call);
/// Of the three inputs, from the gradient of what linear gives; the first two are read.
std::vector<DTensor> linear_gradients(const GradientCall& g, const DTensor& up);

}  // namespace dtensor::ops
