// SPDX-License-Identifier: Apache-2.0
#include "comm/communicator.h"

#include <algorithm>

#include "base/error_text.h"

namespace dtensor::comm {

Communicator& RankComm::group(std::span<const int> ranks, std::string_view role) {
  for (const Entry& e : entries_)
    if (std::equal(ranks.begin(), ranks.end(), e.ranks.begin(), e.ranks.end()) && e.role == role) return *e.communicator;
  const base::RankContext& here = base::require_rank("group");
  if (!transport) base::fail<InvalidArgument>("group: rank {} has no world; call it inside run()", here.rank);
  if (std::find(ranks.begin(), ranks.end(), here.rank) == ranks.end())
    base::fail<InvalidArgument>("group: rank {} is no member of the group {{{}}}; call it on the group's ranks only", here.rank,
                                fmt::join(ranks, ", "));
  Entry entry{{ranks.begin(), ranks.end()}, std::string(role), transport->make(ranks, role)};
  return *entries_.emplace_back(std::move(entry)).communicator;
}

Communicator& group(std::span<const int> ranks, std::string_view role) {
  return base::rank_state<RankComm>(base::require_rank("group")).group(ranks, role);
}

}  // namespace dtensor::comm
