// SPDX-License-Identifier: Apache-2.0
#include "base/rank.h"

#include <doctest/doctest.h>

#include <string>
#include <thread>

#include "dtensor/error.h"

using namespace dtensor;

namespace {

struct Counter {
  int value = 0;
};
struct Other {
  int value = 5;
};

}  // namespace

TEST_CASE("a thread that is no rank is told how to become one") {
  CHECK(base::current_rank() == nullptr);
  try {
    base::require_rank("all_reduce");
    FAIL("no error");
  } catch (const InvalidArgument& error) {
    CHECK(std::string(error.what()) == "all_reduce: this thread is no rank; call it inside run(), or bind the thread with World::enter");
  }
}

TEST_CASE("a binding holds for its own thread only, and the state of a rank follows the rank") {
  base::RankContext first, second;
  first.rank = 0;
  second.rank = 1;
  CHECK(base::bind_rank(&first) == nullptr);
  base::rank_state<Counter>(first).value = 3;
  std::thread([&] {
    CHECK(base::current_rank() == nullptr);
    base::bind_rank(&second);
    CHECK(base::rank_state<Counter>(base::require_rank("test")).value == 0);
    CHECK(base::rank_state<Other>(base::require_rank("test")).value == 5);
    base::bind_rank(&first);
    CHECK(base::rank_state<Counter>(base::require_rank("test")).value == 3);
  }).join();
  CHECK(base::bind_rank(nullptr) == &first);
  CHECK(base::current_rank() == nullptr);
}
