// SPDX-License-Identifier: Apache-2.0
// P(op) -> S(d): every rank combines all contributions to its own part, in rank order.
#include "redistribute/moves/ready.h"

namespace dtensor::redistribute::moves {

Ready reduce_scatter(const PreparedMove& move, const Tensor& in) { return ready_reduce(move, in); }

}  // namespace dtensor::redistribute::moves
