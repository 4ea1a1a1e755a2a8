// SPDX-License-Identifier: Apache-2.0
// The rank that the calling thread is: the one thread-local of the library. Rank state follows the World, not the thread:
// World::enter rebinds it. Modules keep what they need per rank in rank_state<T>(), so nothing here names them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "dtensor/export.h"
#include "dtensor/values.h"

namespace dtensor::base {

inline constexpr int kMaxRankStates = 32;

struct RankContext {
  int rank = 0;
  int world_size = 1;
  std::uint64_t world_id = 0;  ///< unique in this process; part of mesh equality
  Device device{};
  int threads = 1;  ///< this rank's own thread budget for kernels
  /// Name (static text) of the last library call, read by other threads for the error that names a rank which does not come.
  std::atomic<const char*> last_call{nullptr};
  /// Set when the world is over; library calls then throw its error. Owned by the world; null: never over.
  const std::atomic<bool>* over = nullptr;
  void (*throw_over)(RankContext&) = nullptr;  ///< throws the world's error
  std::array<std::shared_ptr<void>, kMaxRankStates> states{};
  RankContext() = default;
  RankContext(const RankContext&) = delete;
};

/// The rank of the calling thread, null outside a world. One thread-local load.
DTENSOR_EXPORT RankContext* current_rank() noexcept;
/// Binds the calling thread (null unbinds) and returns what was bound.
DTENSOR_EXPORT RankContext* bind_rank(RankContext* context) noexcept;
/// @throws InvalidArgument "`op`: this thread is no rank; call it inside run(), or bind the thread with World::enter".
DTENSOR_EXPORT RankContext& require_rank(std::string_view op);
/// A new process-wide index for a kind of rank state.
DTENSOR_EXPORT int next_state_index();

/// This rank's T, default-constructed at first use and destroyed with the rank. T belongs to one module.
template <class T>
T& rank_state(RankContext& context) {
  static const int index = next_state_index();
  auto& slot = context.states[static_cast<std::size_t>(index)];
  if (!slot) slot = std::make_shared<T>();
  return *static_cast<T*>(slot.get());
}

}  // namespace dtensor::base
