// SPDX-License-Identifier: Apache-2.0
// R -> P(op): sum and product keep the value on the first rank of the axis and hold neutral elements elsewhere; min, max and avg keep it everywhere.
#include <algorithm>

#include "local/neutral.h"
#include "redistribute/move.h"

namespace dtensor::redistribute::moves {

bool keeps_value(const PreparedMove& move) {
  for (int axis : move.move.axes) {
    const ReduceOp op = *move.move.to->partial[static_cast<std::size_t>(axis)];
    if ((op == ReduceOp::sum || op == ReduceOp::product) && move.coordinates[axis] != 0) return false;
  }
  return true;
}

Ready to_partial(const PreparedMove& move, const Tensor& in) {
  if (keeps_value(move)) return in;
  Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
  // Kinds on one tensor commute, so those of which one is sum have one neutral element.
  const auto fills = [&](int axis) {
    const ReduceOp op = *move.move.to->partial[static_cast<std::size_t>(axis)];
    return op == ReduceOp::sum || op == ReduceOp::product;
  };
  const int axis = *std::find_if(move.move.axes.begin(), move.move.axes.end(), fills);
  if (in.device().kind != DeviceKind::meta) local::fill_neutral(out, *move.move.to->partial[static_cast<std::size_t>(axis)]);
  return out;
}

}  // namespace dtensor::redistribute::moves
