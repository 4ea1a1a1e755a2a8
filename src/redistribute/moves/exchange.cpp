// SPDX-License-Identifier: Apache-2.0
// The moves that only copy: all_gather, all_to_all, permute, and send_recv where nothing is Partial on its axes. They differ in the boxes, not in the code.
#include "redistribute/moves/start.h"

namespace dtensor::redistribute::moves {

Tensor all_gather(const PreparedMove& move, const Tensor& in) { return start_exchange(move, in); }
Tensor all_to_all(const PreparedMove& move, const Tensor& in) { return start_exchange(move, in); }
Tensor permute(const PreparedMove& move, const Tensor& in) { return start_exchange(move, in); }

}  // namespace dtensor::redistribute::moves
