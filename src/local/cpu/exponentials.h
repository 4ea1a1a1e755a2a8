// SPDX-License-Identifier: Apache-2.0
// The middle of every softmax: exponentials of a row and their sum.
#pragma once

#include <algorithm>
#include <cstdint>

#include "local/cpu/lanes.h"
#include "local/cpu/vector_math.h"

namespace dtensor::local::cpu {

/// Writes exp(x - top) to `out`, which may be x; returns the sum. n: a multiple of kChunk, padding -inf; top >= x but for rounding.
template <class Acc>
Acc exponentials(const Acc* x, std::int64_t n, Acc top, Acc* out) {
  for (std::int64_t i = 0; i < n; i += kChunk) {
    Acc block[kChunk];
    for (std::int64_t j = 0; j < kChunk; ++j) block[j] = vexp_negative(x[i + j] - top);
    std::copy_n(block, kChunk, out + i);
  }
  return sum_terms<Acc>(n, [out](std::int64_t i) { return out[i]; });
}

}  // namespace dtensor::local::cpu
