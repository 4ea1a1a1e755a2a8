// SPDX-License-Identifier: Apache-2.0
// toolkit/sorting.h on the host.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "local/cuda/launch.h"
#include "local/cuda/toolkit/sorting.h"

namespace dtensor::local::cuda {
namespace {

constexpr std::size_t kScratch = 24;
void check(void* scratch, std::size_t bytes) {
  if (scratch == nullptr || bytes != kScratch) throw std::logic_error("scratch of " + std::to_string(bytes) + " bytes is not what was asked for");
  std::memset(scratch, 0xa5, bytes);
}

template <class Key>
void sort(const SortCall& c) {
  const auto* keys = static_cast<const Key*>(c.keys);
  auto* sorted = static_cast<Key*>(c.sorted_keys);
  const int bits = c.end_bit - c.first_bit;
  if (c.first_bit < 0 || bits < 0 || c.end_bit > static_cast<int>(8 * sizeof(Key))) throw std::logic_error("there are no such bits of a key");
  const auto part = [&](std::uint32_t i) {
    const auto key = bits == 0 ? std::uint64_t{0} : static_cast<std::uint64_t>(keys[i]) >> c.first_bit;
    return bits >= 64 ? key : key & ((std::uint64_t{1} << bits) - 1);
  };
  std::vector<std::uint32_t> order(c.count);
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return part(a) < part(b); });
  for (std::uint32_t i = 0; i < c.count; ++i) {
    sorted[i] = keys[order[i]];
    c.sorted_values[i] = c.values[order[i]];
  }
}

}  // namespace

std::size_t sort_scratch(const SortCall& /*call*/) { return kScratch; }
void sort_pairs(const SortCall& call, void* scratch, std::size_t bytes, Stream stream) {
  emulated::queue("sort", stream, [=] {
    check(scratch, bytes);
    if (call.key_bytes == 4) sort<std::uint32_t>(call);
    else sort<std::uint64_t>(call);
  });
}

std::size_t sum_scratch(std::int64_t /*count*/) { return kScratch; }
void inclusive_sum(const std::uint8_t* flags, std::int64_t* sums, std::int64_t count, void* scratch, std::size_t bytes, Stream stream) {
  emulated::queue("scan", stream, [=] {
    check(scratch, bytes);
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sums[i] = sum += flags[i];
  });
}

std::size_t row_sort_scratch(std::int64_t /*rows*/) { return kScratch; }
void sort_rows(const std::uint64_t* keys, std::int64_t width, std::int64_t* order, std::int64_t rows, void* scratch, std::size_t bytes,
               Stream stream) {
  emulated::queue("sort of rows", stream, [=] {
    check(scratch, bytes);
    std::stable_sort(order, order + rows, [&](std::int64_t a, std::int64_t b) {
      return std::lexicographical_compare(keys + a * width, keys + (a + 1) * width, keys + b * width, keys + (b + 1) * width);
    });
  });
}

}  // namespace dtensor::local::cuda
