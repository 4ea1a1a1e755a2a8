// SPDX-License-Identifier: Apache-2.0
// Products of small matrices by the tensor cores, one warp each, and what feeds them: 16-bit operands, sums in f32. What a lane holds of a matrix is that of
// the instructions mma.m16n8k16 and ldmatrix; on the host the same fragments are multiplied through the warp's exchange.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if !defined(__CUDACC__)
#include <vector>
#endif

#include "dtensor/half.h"
#include "local/cuda/block.h"

namespace dtensor::local::cuda {

// With g = lane / 4 and t = lane % 4; a word holds two neighbours, the first in its low half.

/// 16 rows x 16: words (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8).
struct RowsFragment {
  std::uint32_t word[4];
};
/// 16 x 8 columns: words (2t, g) and (2t + 8, g), neighbours along the column.
struct ColumnsFragment {
  std::uint32_t word[2];
};
/// 16 rows x 8 columns: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
struct SumsFragment {
  float at[4];
};

/// Two numbers rounded to T: BFloat16 or Half.
template <class T>
DTENSOR_DEVICE std::uint32_t pack(float first, float second) {
#if defined(__CUDA_ARCH__)
  std::uint32_t word;
  if constexpr (std::is_same_v<T, BFloat16>) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  return word;
#else
  return T(first).bits | static_cast<std::uint32_t>(T(second).bits) << 16;
#endif
}

/// c += a x b by the whole warp.
template <class T>
DTENSOR_DEVICE void multiply_add([[maybe_unused]] const Block& block, const RowsFragment& a, const ColumnsFragment& b, SumsFragment& c) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<T, BFloat16>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c.at[0]), "+f"(c.at[1]), "+f"(c.at[2]), "+f"(c.at[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c.at[0]), "+f"(c.at[1]), "+f"(c.at[2]), "+f"(c.at[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]));
#elif !defined(__CUDACC__)
  struct Lane {
    RowsFragment a;
    ColumnsFragment b;
  } all[kWarp];
  const Lane mine{a, b};
  emulated::gather(&mine, all, sizeof mine);
  const auto half = [](std::uint32_t word, int i) {
    T value;
    value.bits = static_cast<std::uint16_t>(word >> (16 * i));
    return static_cast<float>(value);
  };
  for (int i = 0; i < 4; ++i) {
    const int row = block.lane() / 4 + i / 2 * 8, column = block.lane() % 4 * 2 + i % 2;
    for (int k = 0; k < 16; ++k) {
      const Lane &of_row = all[row % 8 * 4 + k % 8 / 2], &of_column = all[column * 4 + k % 8 / 2];
      c.at[i] += half(of_row.a.word[row / 8 + k / 8 * 2], k % 2) * half(of_column.b.word[k / 8], k % 2);
    }
  }
#endif
}

/// Four matrices of 8 x 8 from shared memory: lane 8m + r names row r of matrix m, 16-byte aligned. Of matrix m a lane gets (g, 2t) and (g, 2t + 1), when
/// `transposed` (2t, g) and (2t + 1, g).
template <bool transposed>
DTENSOR_DEVICE void load_matrices(const Block& block, const void* row, std::uint32_t (&to)[4]) {
#if defined(__CUDA_ARCH__)
  static_cast<void>(block);
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
#elif !defined(__CUDACC__)
  const void* rows[kWarp];
  emulated::gather(&row, rows, sizeof row);
  const int g = block.lane() / 4, t = block.lane() % 4;
  for (int m = 0; m < 4; ++m) {
    const auto element = [&](int r, int c) { return static_cast<const std::uint16_t*>(rows[8 * m + r])[c]; };
    const std::uint32_t first = transposed ? element(2 * t, g) : element(g, 2 * t),
                        second = transposed ? element(2 * t + 1, g) : element(g, 2 * t + 1);
    to[m] = first | second << 16;
  }
#else
  static_cast<void>(block), static_cast<void>(row), static_cast<void>(to);
#endif
}

/// Copies from global to shared memory that a thread has begun; others see them after wait() and a meeting of the block.
class AsyncCopies {
 public:
  /// N: 4, 8 or 16 bytes, both addresses aligned to it; what is beyond `bytes` becomes 0.
  template <int N>
  DTENSOR_DEVICE void begin(void* to, const void* from, int bytes = N) {
    static_assert(N == 4 || N == 8 || N == 16);
#if defined(__CUDA_ARCH__)
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
    if constexpr (N == 16) asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
    else asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from), "n"(N), "r"(bytes) : "memory");
#elif !defined(__CUDACC__)
    if (bytes == 16) as_vector(16);
    std::memset(to, 0xa5, N);
    begun_.push_back({to, from, N, bytes});
#else
    static_cast<void>(to), static_cast<void>(from), static_cast<void>(bytes);
#endif
  }
  /// Of all that this thread has begun.
  DTENSOR_DEVICE void wait() {
#if defined(__CUDA_ARCH__)
    asm volatile("cp.async.wait_all;" ::: "memory");
#elif !defined(__CUDACC__)
    for (const Copy& c : begun_) {
      std::memset(c.to, 0, static_cast<std::size_t>(c.size));
      std::memcpy(c.to, c.from, static_cast<std::size_t>(c.bytes));
    }
    begun_.clear();
#endif
  }

#if !defined(__CUDACC__)
 private:
  struct Copy {
    void* to;
    const void* from;
    int size, bytes;
  };
  std::vector<Copy> begun_;
#endif
};

/// 2 to the power of x, to about 2 units in the last place; subnormal results are 0.
DTENSOR_DEVICE inline float power_of_two(float x) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return std::exp2(x);
#endif
}

}  // namespace dtensor::local::cuda
