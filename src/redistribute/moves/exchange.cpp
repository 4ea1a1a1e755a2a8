// SPDX-License-Identifier: Apache-2.0
// The moves that only copy: all_gather, all_to_all, permute, and send_recv where nothing is Partial on its axes. They differ in the boxes, not in the code.
#include "redistribute/moves/ready.h"

namespace dtensor::redistribute::moves {

Ready all_gather(const PreparedMove& move, const Tensor& in) { return ready_exchange(move, in); }
Ready all_to_all(const PreparedMove& move, const Tensor& in) { return ready_exchange(move, in); }
Ready permute(const PreparedMove& move, const Tensor& in) { return ready_exchange(move, in); }

}  // namespace dtensor::redistribute::moves
