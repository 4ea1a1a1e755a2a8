// SPDX-License-Identifier: Apache-2.0
// S(d) -> P(op): the own part at its place, neutral elements elsewhere.
#include "local/neutral.h"
#include "redistribute/move.h"
#include "redistribute/moves/runs.h"

namespace dtensor::redistribute::moves {
Ready shard_to_partial(const PreparedMove& move, const Tensor& in) {
  Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
  if (in.device().kind == DeviceKind::meta) return out;
  local::fill_neutral(out, *move.move.to->partial[static_cast<std::size_t>(move.move.axes.front())]);
  // A replica on an axis that becomes Partial contributes once.
  each_box(out, in, move.runs, [](const Tensor& part, const Tensor& packed) { part.copy_(packed); });
  return out;
}

}  // namespace dtensor::redistribute::moves
