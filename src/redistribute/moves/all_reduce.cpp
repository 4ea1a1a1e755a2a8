// SPDX-License-Identifier: Apache-2.0
// P(op) -> R over one axis or several at once; the same bits on every rank.
#include "redistribute/move.h"

namespace dtensor::redistribute::moves {

Ready all_reduce(const PreparedMove& move, const Tensor& in) {
  Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
  if (in.is_contiguous()) return {comm::Form::all_reduce, in, std::move(out)};
  // Packed where the result will be, then in place.
  if (in.device().kind != DeviceKind::meta) out.copy_(in);
  return {comm::Form::all_reduce, out, out};
}

}  // namespace dtensor::redistribute::moves
