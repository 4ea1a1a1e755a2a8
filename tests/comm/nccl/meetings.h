// SPDX-License-Identifier: Apache-2.0
// Whether the members of a communicator put the operations that they do together into groups in one way. What is one group for one member is one for all:
// a send that waits, in its group, for a receive of the peer's next group may hold that next group up.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace dtensor::comm::nccl::recorded {

class Meetings {
 public:
  using Group = std::pair<int, int>;  ///< of a member, its number

  /// An operation of `a` and one of `b` are done together. Gives what does not fit, each thing once; empty: nothing.
  std::string join(const Group& a, const Group& b) {
    const std::size_t here = of(a), there = of(b);
    if (here == there) return {};
    std::string text;
    for (const auto& [member, number] : std::exchange(groups_[there], {})) {
      const auto [at, added] = groups_[here].try_emplace(member, number);
      if (!added)
        text = "member " + std::to_string(member) + " has in groups " + std::to_string(std::min(at->second, number)) + " and " +
               std::to_string(std::max(at->second, number)) + " what is one group of others";
      meeting_[{member, number}] = here;
    }
    return text;
  }

 private:
  std::size_t of(const Group& group) {
    const auto [at, added] = meeting_.try_emplace(group, groups_.size());
    if (added) groups_.push_back({group});
    return at->second;
  }
  std::map<Group, std::size_t> meeting_;
  std::vector<std::map<int, int>> groups_;  // of each meeting, by member
};

}  // namespace dtensor::comm::nccl::recorded
