// SPDX-License-Identifier: Apache-2.0
// The two ways in which boxes travel.
#pragma once

#include "redistribute/move.h"

namespace dtensor::redistribute::moves {

/// What is sent, and the boxes in its strides: a view that the move before left goes as it is.
struct Sent {
  Tensor source;
  TransferRef transfer;
};
inline Sent sent(const PreparedMove& move, const Tensor& in) {
  if (move.view_transfer && in.strides() == move.in_strides) return {in, move.view_transfer};
  return {in.contiguous(), move.transfer};
}

inline Tensor start_exchange(const PreparedMove& move, const Tensor& in) {
  const auto [source, transfer] = sent(move, in);
  Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
  comm::group(move.group).exchange({to_string(move.move.kind), move.fingerprint, move.detail}, source, out, transfer);
  return out;
}

inline Tensor start_reduce(const PreparedMove& move, const Tensor& in) {
  const auto [source, transfer] = sent(move, in);
  Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
  comm::group(move.group).reduce({to_string(move.move.kind), move.fingerprint, move.detail}, source, out, transfer, move.reduction);
  return out;
}

}  // namespace dtensor::redistribute::moves
