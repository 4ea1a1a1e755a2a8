// SPDX-License-Identifier: Apache-2.0
// From anything to anything in one step. From Partial, contributions are added in rank order.
#include "redistribute/moves/start.h"

namespace dtensor::redistribute::moves {

Tensor send_recv(const PreparedMove& move, const Tensor& in) {
  for (int axis : move.move.axes)
    if (move.move.from->partial[static_cast<std::size_t>(axis)] && !move.move.to->partial[static_cast<std::size_t>(axis)])
      return start_reduce(move, in);
  return start_exchange(move, in);
}

}  // namespace dtensor::redistribute::moves
