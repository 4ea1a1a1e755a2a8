// SPDX-License-Identifier: Apache-2.0
// What the library uses of CUB. All memory is of the device; work is queued on the stream. Scratch: as many bytes as the function beside says.
#pragma once

#include <cstddef>
#include <cstdint>

#include "local/cuda/driver.h"

namespace dtensor::local::cuda {

/// Keys are unsigned, of 4 or 8 bytes, in the order of their bits [first_bit, end_bit); equal ones keep their order. Results share no memory with operands.
struct SortCall {
  const void* keys = nullptr;
  void* sorted_keys = nullptr;
  const std::uint32_t* values = nullptr;
  std::uint32_t* sorted_values = nullptr;  ///< along with the keys
  std::uint32_t count = 0;
  int key_bytes = 8, first_bit = 0, end_bit = 64;
};
std::size_t sort_scratch(const SortCall& call);
void sort_pairs(const SortCall& call, void* scratch, std::size_t bytes, Stream stream);

/// sums[i] = flags[0] + ... + flags[i].
std::size_t sum_scratch(std::int64_t count);
void inclusive_sum(const std::uint8_t* flags, std::int64_t* sums, std::int64_t count, void* scratch, std::size_t bytes, Stream stream);

/// Brings `order`, the numbers of some rows of `keys` [rows, width], into the order of the rows, word by word; equal ones keep their order.
std::size_t row_sort_scratch(std::int64_t rows);
void sort_rows(const std::uint64_t* keys, std::int64_t width, std::int64_t* order, std::int64_t rows, void* scratch, std::size_t bytes,
               Stream stream);

}  // namespace dtensor::local::cuda
