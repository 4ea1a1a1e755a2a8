// SPDX-License-Identifier: Apache-2.0
// Transfer: which boxes of this rank's memory go to which member of a group, and which come from where. Pure numbers.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dtensor/values.h"

namespace dtensor::redistribute {

/// A strided box of a local tensor. Offset and strides are in elements of its memory, counted from its first element: of a receive in the row-major result,
/// of a send in the strides for which the boxes were made.
struct Piece {
  int peer = 0;             ///< index in the group (not a world rank); may be this rank itself
  std::int64_t offset = 0;  ///< of the first element
  Shape sizes;
  Shape strides;
};
/// The k-th send from p to q matches the k-th receive at q from p: same sizes. In a reduction, receives with equal offset, sizes and strides are
/// contributions to one box and stand next to each other in ascending peer order.
struct Transfer {
  std::vector<Piece> sends, receives;
};
using TransferRef = std::shared_ptr<const Transfer>;

}  // namespace dtensor::redistribute
