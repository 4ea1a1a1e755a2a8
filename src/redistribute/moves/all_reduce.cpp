// SPDX-License-Identifier: Apache-2.0
// P(op) -> R over one axis or several at once; the same bits on every rank.
#include "redistribute/move.h"

namespace dtensor::redistribute::moves {

Tensor all_reduce(const PreparedMove& move, const Tensor& in) {
  Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
  Tensor source = in;
  if (!in.is_contiguous()) {
    // Packed where the result will be, then in place.
    if (in.device().kind != DeviceKind::meta) out.copy_(in);
    source = out;
  }
  comm::group(move.group).all_reduce({to_string(move.move.kind), move.fingerprint, move.detail}, source, out, move.reduction);
  return out;
}

}  // namespace dtensor::redistribute::moves
