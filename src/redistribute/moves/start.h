// SPDX-License-Identifier: Apache-2.0
// The two ways in which boxes travel.
#pragma once

#include "redistribute/move.h"

namespace dtensor::redistribute::moves {

inline Tensor start_exchange(const PreparedMove& move, const Tensor& in) {
  const Tensor source = in.contiguous();
  Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
  comm::group(move.group).exchange({to_string(move.move.kind), move.fingerprint, move.detail}, source, out, move.transfer);
  return out;
}

inline Tensor start_reduce(const PreparedMove& move, const Tensor& in) {
  const Tensor source = in.contiguous();
  Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
  comm::group(move.group).reduce({to_string(move.move.kind), move.fingerprint, move.detail}, source, out, move.transfer, move.reduction);
  return out;
}

}  // namespace dtensor::redistribute::moves
