// SPDX-License-Identifier: Apache-2.0
// To another mesh, in one grouped step. Where no byte moves, every rank takes its part from what it has.
#include "local/neutral.h"
#include "redistribute/moves/runs.h"
#include "redistribute/moves/start.h"

namespace dtensor::redistribute::moves {

Tensor transfer(const PreparedMove& move, const Tensor& in) {
  const bool stays = !move.communicates() && !move.fill;
  // A scalar that stays has no dimension to cut.
  if (stays && (!move.runs.empty() || move.out_shape.empty())) return part_of(move, in, move.view);
  const Tensor source = in ? in.contiguous() : in;
  Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
  if (move.fill && in.device().kind != DeviceKind::meta) local::fill_neutral(out, *move.fill);
  if (!move.communicates()) return out;
  const comm::Call call{to_string(move.move.kind), move.fingerprint, move.detail};
  comm::Communicator& group = comm::group(move.group);
  if (move.combines) group.reduce(call, source, out, move.transfer, move.reduction);
  else group.exchange(call, source, out, move.transfer);
  return out;
}

}  // namespace dtensor::redistribute::moves
