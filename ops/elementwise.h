// SPDX-License-Identifier: Apache-2.0
// What the pointwise families share: broadcasting and promotion of global types, kernel arguments, gradients of broadcast operands.
#pragma once

#include <stdexcept>
#include <vector>

#include "dtensor/op.h"
#include "local/op_name.h"
#include "ops/families.h"

namespace dtensor::ops {

/// Sizes of inputs [first, first + count) broadcast right-aligned; absent ones are left out. @throws InvalidArgument naming two that do not fit.
Shape broadcast_shape(const ShapeCall& s, int first, int count);
/// PyTorch's rule for two tensors: one without dimensions counts only if its category (bool, integer, floating) is higher.
Dtype promote_operands(const TensorType& a, const TensorType& b) noexcept;
Dtype promote_operands(const Tensor& a, const Tensor& b) noexcept;
/// f32 for integers and bool, the dtype itself otherwise.
Dtype floating_dtype(Dtype dtype) noexcept;

// Shape rules.
void same_type(ShapeCall& s);      ///< result 0 is as input 0
void floating_type(ShapeCall& s);  ///< as input 0, integers become f32
void boolean_type(ShapeCall& s);   ///< as input 0, bool
/// Written input 0 keeps its type; the others [1, n) must broadcast to it. @throws InvalidArgument also when a floating operand meets an integer self.
void written_type(ShapeCall& s);

/// `grad` summed to the shape of input i and converted to its dtype; empty when nobody asked for it or grad is empty.
DTensor gradient_for(const GradientCall& g, int i, const DTensor& grad);
/// Zeros in place of a derivative that vanishes everywhere.
std::vector<DTensor> zero_gradient(const GradientCall& g);

/// Runs `body`, turning std::domain_error (seen by this rank alone) into the call's error; kernels that see the like later name the call's op.
template <class Body>
void run_checked(const KernelCall& call, Body body) {
  const local::OpName name(call.op_name);
  try {
    body();
  } catch (const std::domain_error& e) { call.fail(e.what()); }
}

}  // namespace dtensor::ops
