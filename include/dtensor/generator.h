// SPDX-License-Identifier: Apache-2.0
// Generator: where random numbers come from. Element i of a random tensor depends on (seed, call number, global index i) only, so the same numbers come
// out under every mesh, placement, world size and backend.
#pragma once

#include <cstdint>

#include "dtensor/export.h"

namespace dtensor {

/// A seed and a count of calls. Every random op takes the next call number; all ranks of a mesh must make the same calls on it. Local.
class Generator {
 public:
  constexpr Generator() noexcept = default;
  constexpr explicit Generator(std::uint64_t seed) noexcept : seed_(seed) {}
  constexpr std::uint64_t seed() const noexcept { return seed_; }
  /// Calls made so far: the number of the next one.
  constexpr std::uint64_t calls() const noexcept { return calls_; }
  constexpr void set_state(std::uint64_t seed, std::uint64_t calls) noexcept {
    seed_ = seed;
    calls_ = calls;
  }
  /// The number of this call; counts it.
  constexpr std::uint64_t next_call() noexcept { return calls_++; }
  /// The second counter, of random ops on DeviceMesh::self(), which ranks need not make alike.
  constexpr std::uint64_t self_calls() const noexcept { return self_calls_; }
  constexpr void set_self_calls(std::uint64_t calls) noexcept { self_calls_ = calls; }
  constexpr std::uint64_t next_self_call() noexcept { return self_calls_++; }

 private:
  std::uint64_t seed_ = 0, calls_ = 0, self_calls_ = 0;
};

/// That of this rank (seed 0 at first); on a thread that is no rank, of the thread.
DTENSOR_EXPORT Generator& default_generator();
/// Starts the default generator anew; every rank calls it with the same seed.
DTENSOR_EXPORT void manual_seed(std::uint64_t seed);

}  // namespace dtensor
