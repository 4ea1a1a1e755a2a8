// SPDX-License-Identifier: Apache-2.0
#include "base/intern_table.h"

#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

using namespace dtensor;

namespace {

struct Word {
  std::string text;
  std::uint64_t hash = 0;  // chosen by the test: equal hashes of different words are the hard case
  friend bool operator==(const Word& a, const Word& b) { return a.text == b.text; }
};

}  // namespace

TEST_CASE("equal values are one object, different values of one hash are two, and entries go with their last reference") {
  base::InternTable<Word> table;
  auto a = table.intern({"a", 1});
  auto b = table.intern({"b", 1});
  CHECK(a == table.intern({"a", 1}));
  CHECK(a != b);
  CHECK(table.size() == 2);
  a.reset();
  CHECK(table.size() == 1);
  b.reset();
  CHECK(table.size() == 0);
}

TEST_CASE("threads that intern and drop the same values never see two objects for one value") {
  base::InternTable<Word> table;
  const auto kept = table.intern({"kept", 3});
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5000; ++i) {
        const auto first = table.intern({std::to_string(i % 3), 3});
        const auto second = table.intern({std::to_string(i % 3), 3});
        if (first != second || table.intern({"kept", 3}) != kept) ++wrong[t];
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
  CHECK(table.size() == 1);
}
