// SPDX-License-Identifier: Apache-2.0
// The compiler and its flags: what a build must not get wrong before anything else can be right.
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "dtensor/values.h"

namespace {

struct Four {
  std::int64_t values[4];
};
[[gnu::noinline]] void store(Four* target) { *target = Four{{2, 2, 2, 0}}; }
[[gnu::noinline]] std::vector<std::int64_t> list() { return {3, 3, 3, 3, 3, 3, 3, 0}; }
[[gnu::noinline]] dtensor::Shape shape() { return {4, 4, 4, 0}; }

}  // namespace

TEST_CASE("a constant of equal numbers that ends in 0 keeps its 0") {
  Four four{};
  store(&four);
  CHECK(four.values[2] == 2);
  CHECK(four.values[3] == 0);
  CHECK(list().back() == 0);
  CHECK(shape().back() == 0);
}
