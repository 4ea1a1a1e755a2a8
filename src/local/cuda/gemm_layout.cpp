// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "local/cuda/gemm.h"

namespace dtensor::local::cuda {

std::optional<ProductMatrix> product_matrix(std::int64_t rows, std::int64_t columns, std::int64_t row, std::int64_t column) noexcept {
  if ((columns == 1 || column == 1) && (rows == 1 || row >= columns)) return ProductMatrix{.transposed = false, .ld = rows == 1 ? columns : row};
  if ((rows == 1 || row == 1) && (columns == 1 || column >= rows)) return ProductMatrix{.transposed = true, .ld = columns == 1 ? rows : column};
  return {};
}

int alignment_of(const void* address) noexcept {
  const std::uintptr_t bits = reinterpret_cast<std::uintptr_t>(address) | 256u;
  return static_cast<int>(bits & (~bits + 1));
}

std::int64_t ProductBatch::numel() const noexcept {
  std::int64_t n = 1;
  for (int d = 0; d < ndim; ++d) n *= sizes[static_cast<std::size_t>(d)];
  return n;
}
int ProductBatch::longest() const noexcept {
  return static_cast<int>(std::max_element(sizes.begin(), sizes.begin() + ndim) - sizes.begin()) - (ndim == 0 ? 1 : 0);
}

ProductBatch product_batch(const cpu::GemmCall& c) noexcept {
  ProductBatch result;
  std::int64_t out = c.m * c.n;
  std::size_t first = kMaxDims;  // dims are found from the last one on and stand at the end until all are there
  for (int d = c.batch.ndim() - 1; d >= 0; --d) {
    const std::int64_t size = c.batch[d];
    const std::array<std::int64_t, 4> step{c.a.batch[d], c.b.batch[d], c.addend.data != nullptr ? c.addend.batch[d] : 0, out};
    out *= size;
    if (size == 1) continue;
    bool one_run = first < kMaxDims && (c.addend.data == nullptr || step[2] == result.strides[2][first] * result.sizes[first]);
    for (std::size_t o = 0; o < 2; ++o) one_run = one_run && step[o] == result.strides[o][first] * result.sizes[first];
    if (one_run) {
      result.sizes[first] *= size;
      continue;
    }
    result.sizes[--first] = size;
    for (std::size_t o = 0; o < 4; ++o) result.strides[o][first] = step[o];
  }
  result.ndim = static_cast<int>(kMaxDims - first);
  const auto to_front = [first](auto& list) { std::move(list.begin() + static_cast<std::ptrdiff_t>(first), list.end(), list.begin()); };
  to_front(result.sizes);
  for (auto& s : result.strides) to_front(s);
  return result;
}

}  // namespace dtensor::local::cuda
