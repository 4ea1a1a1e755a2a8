// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/product_cache.h"

#include "base/hash.h"

namespace dtensor::local::cuda {

std::size_t ProductHash::operator()(const ProductShape& s) const noexcept {
  const auto word = [](std::int64_t x) { return static_cast<std::uint64_t>(x); };
  const std::uint64_t flags = s.tf32 * 16u + s.has_c * 8u + s.has_bias * 4u + s.gelu * 2u + s.keeps_sum;
  std::uint64_t h = base::mix(static_cast<std::uint64_t>(s.dtype) * 4096 + static_cast<std::uint64_t>(s.out_dtype) * 256 + flags, word(s.m));
  for (std::int64_t x : {s.n, s.k, s.count}) h = base::mix(h, word(x));
  for (const ProductMatrix* m : {&s.a, &s.b, &s.c, &s.out}) {
    h = base::mix(h, word(m->alignment * 2 + m->transposed));
    h = base::mix(h, word(m->ld));
    h = base::mix(h, word(m->batch));
  }
  return h;
}

}  // namespace dtensor::local::cuda
