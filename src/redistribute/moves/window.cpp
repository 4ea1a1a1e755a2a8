// SPDX-License-Identifier: Apache-2.0
// What a rank's part of a result reads and the rank does not hold: intersections, so neighbours or not, and only the bytes that are missing.
#include "redistribute/moves/ready.h"

namespace dtensor::redistribute::moves {

Ready window(const PreparedMove& move, const Tensor& in) { return ready_exchange(move, in); }

}  // namespace dtensor::redistribute::moves
