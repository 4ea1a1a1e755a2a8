// SPDX-License-Identifier: Apache-2.0
// R -> P(op): sum and product keep the value on the first rank of the axis and hold neutral elements elsewhere; min, max and avg keep it everywhere.
#include "local/neutral.h"
#include "redistribute/move.h"

namespace dtensor::redistribute::moves {

Tensor to_partial(const PreparedMove& move, const Tensor& in) {
  for (int axis : move.move.axes) {
    const ReduceOp op = *move.move.to->partial[static_cast<std::size_t>(axis)];
    const bool first_only = op == ReduceOp::sum || op == ReduceOp::product;
    if (!first_only || move.coordinates[axis] == 0) continue;
    Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
    if (in.device().kind != DeviceKind::meta) local::fill_neutral(out, op);
    return out;
  }
  return in;
}

}  // namespace dtensor::redistribute::moves
