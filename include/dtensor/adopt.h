// SPDX-License-Identifier: Apache-2.0
// Options of adopt(), for all communicators that an application may own.
#pragma once

#include <optional>
#include <string>

#include "dtensor/export.h"
#include "dtensor/values.h"
#include "dtensor/world.h"

namespace dtensor {

struct AdoptOptions {
  std::optional<Device> device = {};  ///< of this rank; none: the communicator's. @throws InvalidArgument where they differ
  double time_limit_s = 300;          ///< of a wait in which no other rank arrives; 0: none
  std::string store_folder = {};      ///< where groups meet: a folder that all ranks see, empty at first; empty text: TCP, served by rank 0
  int threads = 0;                    ///< for kernels of the CPU; 0: all cores
};

/// adopt() of dtensor/interop/nccl.h without its type.
DTENSOR_EXPORT World adopt_nccl(void* comm, const AdoptOptions& options);

}  // namespace dtensor
