// SPDX-License-Identifier: Apache-2.0
// Launches after which the host does not wait, whatever DTENSOR_CUDA_SYNC says.
#pragma once

namespace dtensor::local::cuda {

/// While it lives, the host waits for no launch of the calling thread: one on a stream that waits for other ranks may need this thread to go on.
class UnwaitedLaunches {
 public:
  UnwaitedLaunches() noexcept;
  UnwaitedLaunches(const UnwaitedLaunches&) = delete;
  ~UnwaitedLaunches();
};

}  // namespace dtensor::local::cuda
