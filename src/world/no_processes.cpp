// SPDX-License-Identifier: Apache-2.0
// A build without MPI and NCCL joins no launcher.
#include "base/error_text.h"
#include "world/command_line.h"

namespace dtensor::world {

void refuse_launcher(const Launcher& launcher, const CommandLine& line) {
  if (line.ranks_given)
    base::fail<InvalidArgument>("run: a launcher and --ranks together ({}={}, --ranks {}); use one of them", launcher.variable, launcher.size,
                                line.options.ranks);
  base::fail<Unsupported>(
      "run: a launcher has started {} processes ({}={}) and this build joins none; build with DTENSOR_MPI or DTENSOR_NCCL, or start one process with "
      "--ranks {}",
      launcher.size, launcher.variable, launcher.size, launcher.size);
}

}  // namespace dtensor::world
