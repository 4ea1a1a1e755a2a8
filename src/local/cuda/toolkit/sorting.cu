// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/toolkit/sorting.h"

#include <cub/device/device_merge_sort.cuh>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

#include <string>

#include "dtensor/error.h"

namespace dtensor::local::cuda {
namespace {

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw DeviceError(std::string(what) + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")");
}
cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream); }

template <class Key>
std::size_t sort(const SortCall& c, void* scratch, std::size_t bytes, cudaStream_t stream) {
  check(cub::DeviceRadixSort::SortPairs(scratch, bytes, static_cast<const Key*>(c.keys), static_cast<Key*>(c.sorted_keys), c.values, c.sorted_values,
                                        c.count, c.first_bit, c.end_bit, stream),
        "sort");
  return bytes;
}
std::size_t sort(const SortCall& c, void* scratch, std::size_t bytes, cudaStream_t stream) {
  return c.key_bytes == 4 ? sort<std::uint32_t>(c, scratch, bytes, stream) : sort<std::uint64_t>(c, scratch, bytes, stream);
}

std::size_t sum(const std::uint8_t* flags, std::int64_t* sums, std::int64_t count, void* scratch, std::size_t bytes, cudaStream_t stream) {
  check(cub::DeviceScan::InclusiveScan(scratch, bytes, flags, sums, ::cuda::std::plus<std::int64_t>{}, count, stream), "scan");
  return bytes;
}

struct RowLess {
  const std::uint64_t* keys;
  std::int64_t width;
  __device__ bool operator()(std::int64_t a, std::int64_t b) const {
    for (std::int64_t x = 0; x < width; ++x) {
      const std::uint64_t left = keys[a * width + x], right = keys[b * width + x];
      if (left != right) return left < right;
    }
    return false;
  }
};
std::size_t rows_in_order(RowLess less, std::int64_t* order, std::int64_t rows, void* scratch, std::size_t bytes, cudaStream_t stream) {
  check(cub::DeviceMergeSort::StableSortKeys(scratch, bytes, order, rows, less, stream), "sort of rows");
  return bytes;
}

}  // namespace

std::size_t sort_scratch(const SortCall& call) { return sort(call, nullptr, 0, nullptr); }
void sort_pairs(const SortCall& call, void* scratch, std::size_t bytes, Stream stream) { sort(call, scratch, bytes, native(stream)); }

std::size_t sum_scratch(std::int64_t count) { return sum(nullptr, nullptr, count, nullptr, 0, nullptr); }
void inclusive_sum(const std::uint8_t* flags, std::int64_t* sums, std::int64_t count, void* scratch, std::size_t bytes, Stream stream) {
  sum(flags, sums, count, scratch, bytes, native(stream));
}

std::size_t row_sort_scratch(std::int64_t rows) { return rows_in_order({nullptr, 0}, nullptr, rows, nullptr, 0, nullptr); }
void sort_rows(const std::uint64_t* keys, std::int64_t width, std::int64_t* order, std::int64_t rows, void* scratch, std::size_t bytes,
               Stream stream) {
  rows_in_order({keys, width}, order, rows, scratch, bytes, native(stream));
}

}  // namespace dtensor::local::cuda
