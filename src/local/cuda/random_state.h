// SPDX-License-Identifier: Apache-2.0
// Seed and call number of a random op as kernels read them: given, or counted from where a replay of a graph begins.
#pragma once

#include <cstdint>

#include "local/cuda/block.h"

namespace dtensor::local::cuda {

struct RandomState {
  std::uint64_t given_seed = 0, given_call = 0;
  const std::uint64_t* begin = nullptr;  ///< seed and call number of which `given_call` counts on; null: of none
  DTENSOR_DEVICE std::uint64_t seed() const { return begin == nullptr ? given_seed : begin[0]; }
  DTENSOR_DEVICE std::uint64_t call() const { return begin == nullptr ? given_call : begin[1] + given_call; }
};

/// For kernels that the calling rank queues next.
RandomState random_state(std::uint64_t seed, std::uint64_t call);

}  // namespace dtensor::local::cuda
