// SPDX-License-Identifier: Apache-2.0
// From anything to anything in one step. From Partial, contributions are added in rank order.
#include "redistribute/moves/ready.h"

namespace dtensor::redistribute::moves {

Ready send_recv(const PreparedMove& move, const Tensor& in) {
  for (int axis : move.move.axes)
    if (move.move.from->partial[static_cast<std::size_t>(axis)] && !move.move.to->partial[static_cast<std::size_t>(axis)])
      return ready_reduce(move, in);
  return ready_exchange(move, in);
}

}  // namespace dtensor::redistribute::moves
