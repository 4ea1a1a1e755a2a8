// SPDX-License-Identifier: Apache-2.0
#include "base/inline_array.h"

#include <doctest/doctest.h>

#include <cstddef>
#include <memory>
#include <span>

using dtensor::base::InlineArray;

namespace {

// Counts those that live.
struct Counted {
  static inline int alive = 0;
  int value = 7;
  Counted() { ++alive; }
  Counted(const Counted&) = delete;
  ~Counted() { --alive; }
};

}  // namespace

TEST_CASE("an inline array makes and ends as many elements as asked for, on the stack up to its limit and on the heap beyond") {
  for (std::size_t n : {0, 1, 3, 4, 50}) {
    CAPTURE(n);
    InlineArray<Counted, 3> array(n);
    CHECK(Counted::alive == static_cast<int>(n));
    CHECK(array.size() == n);
    const std::span<Counted> all = array;
    CHECK(all.size() == n);
    for (std::size_t i = 0; i < n; ++i) CHECK(all[i].value == 7);
    const auto* self = reinterpret_cast<const std::byte*>(&array);
    const auto* data = reinterpret_cast<const std::byte*>(array.data());
    CHECK((data >= self && data < self + sizeof array) == (n <= 3));
  }
  CHECK(Counted::alive == 0);
}

TEST_CASE("numbers and pointers of an inline array begin as zero") {
  // The memory held something else before.
  alignas(InlineArray<const int*, 4>) std::byte memory[sizeof(InlineArray<const int*, 4>)];
  for (std::byte& b : memory) b = std::byte{0xff};
  auto* array = new (memory) InlineArray<const int*, 4>(4);
  for (std::size_t i = 0; i < 4; ++i) CHECK((*array)[i] == nullptr);
  std::destroy_at(array);
}
