// SPDX-License-Identifier: Apache-2.0
// To another mesh, in one grouped step. Where no byte moves, every rank takes its part from what it has.
#include "local/neutral.h"
#include "redistribute/move.h"
#include "redistribute/moves/runs.h"

namespace dtensor::redistribute::moves {

Ready transfer(const PreparedMove& move, const Tensor& in) {
  const bool stays = !move.communicates() && !move.fill;
  // A scalar that stays has no dimension to cut.
  if (stays && (!move.runs.empty() || move.out_shape.empty())) return part_of(move, in, move.view);
  const bool as_view = move.view_transfer && in && in.strides() == move.in_strides;
  const Tensor source = in && !as_view ? in.contiguous() : in;
  Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
  if (move.fill && in.device().kind != DeviceKind::meta) local::fill_neutral(out, *move.fill);
  if (!move.communicates()) return out;
  return {move.combines ? comm::Form::reduce : comm::Form::exchange, source, out, as_view ? &move.view_transfer : &move.transfer};
}

}  // namespace dtensor::redistribute::moves
