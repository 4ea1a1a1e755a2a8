// SPDX-License-Identifier: Apache-2.0
#include "base/rank.h"

#include <utility>

#include "base/error_text.h"

namespace dtensor::base {

namespace {
thread_local RankContext* bound = nullptr;
}

RankContext* current_rank() noexcept { return bound; }

RankContext* bind_rank(RankContext* context) noexcept { return std::exchange(bound, context); }

RankContext& require_rank(std::string_view op) {
  if (bound == nullptr) fail<InvalidArgument>("{}: this thread is no rank; call it inside run(), or bind the thread with World::enter", op);
  return *bound;
}

int next_state_index() {
  static std::atomic<int> next{0};
  const int index = next.fetch_add(1);
  if (index >= kMaxRankStates) fail<InternalError>("rank_state: more kinds of rank state than slots ({}); raise kMaxRankStates", kMaxRankStates);
  return index;
}

}  // namespace dtensor::base
