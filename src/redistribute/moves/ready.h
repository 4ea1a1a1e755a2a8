// SPDX-License-Identifier: Apache-2.0
// The two ways in which boxes travel.
#pragma once

#include "redistribute/move.h"

namespace dtensor::redistribute::moves {

// A view that the move before left goes as it is, with boxes in its strides.
inline Ready ready(comm::Form form, const PreparedMove& move, const Tensor& in) {
  if (move.keeps) return in.is_contiguous() ? in.shared_copy() : in.clone();
  const bool as_view = move.view_transfer && in.strides() == move.in_strides;
  return {form, as_view ? in : in.contiguous(), Tensor::empty(move.out_shape, move.dtype, in.device()),
          as_view ? &move.view_transfer : &move.transfer};
}
inline Ready ready_exchange(const PreparedMove& move, const Tensor& in) { return ready(comm::Form::exchange, move, in); }
inline Ready ready_reduce(const PreparedMove& move, const Tensor& in) { return ready(comm::Form::reduce, move, in); }

}  // namespace dtensor::redistribute::moves
