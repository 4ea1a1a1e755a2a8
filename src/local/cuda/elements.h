// SPDX-License-Identifier: Apache-2.0
// Elements at computed positions along one dimension (local/cpu/embedding.h), for kernels.
#pragma once

#include <cstdint>
#include <deque>

#include "local/cpu/embedding.h"
#include "local/cuda/block.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/slices.h"

namespace dtensor::local::cuda {

/// Lines of the index along its dimension; element j of a line is `inner` elements after element j - 1.
struct Elements {
  const std::int64_t* at = nullptr;
  std::int64_t count = 0, length = 1, inner = 1;  ///< of all elements, of a line, of the dimensions after it
  std::int64_t step = 1;                          ///< of the dimension in what is read
  int dims = 0;                                   ///< but the dimension
  std::int64_t sizes[kMaxDims] = {}, strides[kMaxDims] = {}, first[kMaxDims] = {}, lengths[kMaxDims] = {};
  const std::int64_t* lists[kMaxDims] = {};

  DTENSOR_DEVICE std::int64_t lines() const { return count / length; }
  /// First element of a line.
  DTENSOR_DEVICE std::int64_t begin(std::int64_t line) const {
    const std::int64_t outer = quotient(line, inner);
    return outer * length * inner + line - outer * inner;
  }
  /// Where the line stands in what is read; kElsewhere.
  DTENSOR_DEVICE std::int64_t base(std::int64_t line) const {
    std::int64_t position = 0;
    for (int d = dims - 1; d >= 0; --d) {
      const std::int64_t rest = quotient(line, sizes[d]), i = line - rest * sizes[d];
      std::int64_t here = lists[d] != nullptr ? lists[d][i] : first[d] + i;
      if (lists[d] == nullptr && (here < 0 || here >= lengths[d])) here = cpu::kElsewhere;
      if (here == cpu::kElsewhere) return cpu::kElsewhere;
      position += here * strides[d];
      line = rest;
    }
    return position;
  }
  /// Of element i.
  DTENSOR_DEVICE std::int64_t position(std::int64_t i) const {
    const std::int64_t along = at[i];
    if (along == cpu::kElsewhere) return cpu::kElsewhere;
    const std::int64_t before = quotient(i, inner), outer = quotient(before, length);
    const std::int64_t rest = base(outer * inner + i - before * inner);
    return rest == cpu::kElsewhere ? rest : rest + along * step;
  }
};

/// Holds what Elements points to while kernels are queued. `whole`: the shape of what is read.
class ElementsOnDevice {
 public:
  ElementsOnDevice(RankDevice& device, const cpu::ElementsCall& call, const Shape& whole);
  const Elements& elements() const noexcept { return elements_; }

 private:
  Elements elements_;
  std::deque<Uploaded<std::int64_t>> lists_;
};

}  // namespace dtensor::local::cuda
