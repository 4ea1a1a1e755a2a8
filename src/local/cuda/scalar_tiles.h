// SPDX-License-Identifier: Apache-2.0
// Tiles of a matrix product through shared memory, without tensor cores: any element type, any strides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "local/cuda/block.h"
#include "local/strided.h"

namespace dtensor::local::cuda {

/// The type of sums of T: integers wrap, so theirs are unsigned.
template <class T>
using TileSum =
    std::conditional_t<std::is_same_v<T, std::int64_t>, std::uint64_t, std::conditional_t<std::is_integral_v<T>, std::uint32_t, Accumulate<T>>>;

/// Element (i, q) lies at data[i * row + q * column].
template <class T>
struct StridedMatrix {
  const T* data;
  std::int64_t row, column;
};

/// kTile x kTile elements of a b by a block of kThreads threads; each sum in the order of q.
template <class T>
class ScalarTile {
 public:
  using S = TileSum<T>;
  static constexpr int kTile = 64, kThreads = 256;
  static constexpr int kDepth = 16;         // of the sums, between two meetings
  static constexpr int kPitch = kTile + 1;  // neither way of filling a tile has threads meet in a bank
  static constexpr std::size_t kBytes = 2 * kDepth * kPitch * sizeof(S);

  /// put(i, j, sum) for rows i of [i0, i0 + kTile) below m and columns j of [j0, j0 + kTile) below n; q runs over [q0, q1).
  template <class Put>
  DTENSOR_DEVICE static void run(const Block& block, const StridedMatrix<T>& a, const StridedMatrix<T>& b, std::int64_t i0, std::int64_t m,
                                 std::int64_t j0, std::int64_t n, std::int64_t q0, std::int64_t q1, const Put& put) {
    S* const a_tile = block.shared<S>();
    S* const b_tile = a_tile + kDepth * kPitch;
    const int across = block.thread % kSide, down = block.thread / kSide;
    S sum[kPart][kPart] = {};
    for (; q0 < q1; q0 += kDepth) {
      fill(block.thread, a_tile, a.data, i0, m, a.row, q0, q1, a.column);
      fill(block.thread, b_tile, b.data, j0, n, b.column, q0, q1, b.row);
      block.sync();
      for (int q = 0; q < kDepth; ++q) {
        S left[kPart], right[kPart];
        for (int x = 0; x < kPart; ++x) left[x] = a_tile[q * kPitch + down * kPart + x];
        for (int y = 0; y < kPart; ++y) right[y] = b_tile[q * kPitch + y * kSide + across];
        for (int x = 0; x < kPart; ++x)
          for (int y = 0; y < kPart; ++y) sum[x][y] += left[x] * right[y];
      }
      block.sync();
    }
    for (int x = 0; x < kPart; ++x)
      for (int y = 0; y < kPart; ++y) {
        const std::int64_t i = i0 + down * kPart + x, j = j0 + y * kSide + across;
        if (i < m && j < n) put(i, j, sum[x][y]);
      }
  }

 private:
  static constexpr int kPart = 4;  // rows and columns of a thread
  static constexpr int kSide = kTile / kPart;
  static_assert(kSide * kSide == kThreads);

  // tile[q][x] = from[(x0 + x) * step + (q0 + q) * deep], zeros outside; neighbouring threads take what lies side by side.
  DTENSOR_DEVICE static void fill(int thread, S* tile, const T* from, std::int64_t x0, std::int64_t x1, std::int64_t step, std::int64_t q0,
                                  std::int64_t q1, std::int64_t deep) {
    for (int e = thread; e < kTile * kDepth; e += kThreads) {
      const int q = deep <= step ? e % kDepth : e / kTile, x = deep <= step ? e / kDepth : e % kTile;
      const bool inside = x0 + x < x1 && q0 + q < q1;
      tile[q * kPitch + x] = inside ? static_cast<S>(load(from[(x0 + x) * step + (q0 + q) * deep])) : S(0);
    }
  }
};

}  // namespace dtensor::local::cuda
