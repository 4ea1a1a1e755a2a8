// SPDX-License-Identifier: Apache-2.0
// What each rank is to ask of NCCL, made by hand or from a count of elements, and the comparison with what it has asked.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "comm/nccl/recorder.h"

namespace dtensor::testing {

using Lists = std::vector<std::vector<std::string>>;  // by rank or by member
using Numbers = std::vector<std::int64_t>;

struct Interval {
  std::int64_t begin = 0, end = 0;
  std::int64_t length() const { return end - begin; }
};
inline std::int64_t common(const Interval& a, const Interval& b) {
  return std::max<std::int64_t>(0, std::min(a.end, b.end) - std::max(a.begin, b.begin));
}
/// Part `i` of ceil chunks.
inline Interval part_of(const Interval& whole, std::int64_t parts, std::int64_t i) {
  const std::int64_t chunk = (whole.length() + parts - 1) / parts, begin = whole.begin + i * chunk;
  return {std::min(whole.end, begin), std::min(whole.end, begin + chunk)};
}

using Box = std::vector<Interval>;  // an interval per dimension
inline std::int64_t common(const Box& a, const Box& b) {
  std::int64_t n = 1;
  for (std::size_t d = 0; d < a.size(); ++d) n *= common(a[d], b[d]);
  return n;
}
inline std::int64_t volume(const Box& b) { return common(b, b); }

/// Grouped sends and receives of every member, given what each has for each: of both kinds that with the first peer comes first.
inline Lists messages(const std::vector<Numbers>& counts, const std::string& type) {
  Lists calls(counts.size());
  for (std::size_t m = 0; m < counts.size(); ++m)
    for (std::size_t p = 0; p < counts.size(); ++p) {
      if (p == m) continue;
      const auto text = [&](const char* verb, std::int64_t n, const char* to) {
        if (n > 0) calls[m].push_back(std::string(verb) + std::to_string(n) + " " + type + to + std::to_string(p));
      };
      text("Send ", counts[m][p], " to ");
      text("Recv ", counts[p][m], " from ");
    }
  return calls;
}

/// Calls of all ranks in the order in which each makes them: "group/user/0.2 member 1 group 0: AllGather 4 f32".
class ExpectedCalls {
 public:
  explicit ExpectedCalls(int ranks) : lists_(static_cast<std::size_t>(ranks)) {}
  /// One NCCL group of a communicator: what each member calls.
  void group(const std::string& role, const std::vector<int>& members, const Lists& calls) {
    std::string name = "group/" + role + "/";
    for (std::size_t m = 0; m < members.size(); ++m) name += (m > 0 ? "." : "") + std::to_string(members[m]);
    for (std::size_t m = 0; m < members.size(); ++m) {
      if (calls[m].empty()) continue;
      const int number = numbers_[name][m]++;
      for (const std::string& call : calls[m]) lists_[static_cast<std::size_t>(members[m])].push_back(text(name, static_cast<int>(m), number, call));
    }
  }
  void all(const std::string& role, const std::vector<int>& members, const std::string& call) { group(role, members, Lists(members.size(), {call})); }

  /// Compares with the calls of communicators of a role. Those of `user peers` keep an order each, and none among them.
  void compare(const std::vector<comm::nccl::recorded::Call>& calls, const std::string& role) const {
    Lists told(lists_.size()), expected = lists_;
    for (const comm::nccl::recorded::Call& c : calls) {
      if (!c.comm.starts_with("group/" + role + "/")) continue;
      std::istringstream members(c.comm.substr(c.comm.find_last_of('/') + 1));
      std::string rank;
      for (int m = 0; m <= c.member; ++m) std::getline(members, rank, '.');
      told[std::stoul(rank)].push_back(text(c.comm, c.member, c.group, c.text()));
    }
    for (std::size_t rank = 0; rank < told.size(); ++rank) {
      CAPTURE(rank);
      const auto by_communicator = [](const std::string& a, const std::string& b) {
        return a.substr(0, a.find(" member")) < b.substr(0, b.find(" member"));
      };
      if (role == "user peers")
        for (std::vector<std::string>* list : {&told[rank], &expected[rank]}) std::stable_sort(list->begin(), list->end(), by_communicator);
      const auto [given, wanted] = std::mismatch(told[rank].begin(), told[rank].end(), expected[rank].begin(), expected[rank].end());
      CHECK((given == told[rank].end() ? "nothing" : *given) == (wanted == expected[rank].end() ? "nothing" : *wanted));
    }
  }

 private:
  static std::string text(const std::string& name, int member, int group, const std::string& call) {
    return name + " member " + std::to_string(member) + " group " + std::to_string(group) + ": " + call;
  }
  Lists lists_;
  std::map<std::string, std::map<std::size_t, int>> numbers_;  // of groups, by communicator and member
};

}  // namespace dtensor::testing
