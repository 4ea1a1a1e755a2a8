// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/product_cache.h"

#include "base/hash.h"

namespace dtensor::local::cuda {

std::size_t ProductHash::operator()(const ProductShape& s) const noexcept {
  const auto word = [](std::int64_t x) { return static_cast<std::uint64_t>(x); };
  std::uint64_t h =
      base::mix(word(static_cast<int>(s.dtype) * 64 + static_cast<int>(s.out_dtype) * 8 + s.tf32 * 4 + s.has_c * 2 + s.has_bias), word(s.m));
  for (std::int64_t x : {s.n, s.k, s.count}) h = base::mix(h, word(x));
  for (const ProductMatrix* m : {&s.a, &s.b, &s.c, &s.out}) {
    h = base::mix(h, word(m->alignment * 2 + m->transposed));
    h = base::mix(h, word(m->ld));
    h = base::mix(h, word(m->batch));
  }
  return h;
}

}  // namespace dtensor::local::cuda
