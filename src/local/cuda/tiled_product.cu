// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/tiled_product.h"

#include <type_traits>

#include "local/cuda/launch.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

constexpr int kTile = 64;       // rows and columns of the result that a block makes
constexpr int kDepth = 16;      // of the sum, between two meetings
constexpr int kPart = 4;        // rows and columns of a thread
constexpr int kSide = kTile / kPart;
constexpr int kThreads = kSide * kSide;
constexpr int kPitch = kTile + 1;  // neither way of filling a tile has threads meet in a bank

// Sums wrap: unsigned, since signed ones must not.
template <class T>
using Sum = std::conditional_t<std::is_same_v<T, std::int64_t>, std::uint64_t, std::conditional_t<std::is_integral_v<T>, std::uint32_t, Accumulate<T>>>;

template <class T, class Out>
struct Tiles {
  using S = Sum<T>;
  TiledProduct p;
  S alpha, beta;
  std::int64_t down, across, tiles;

  DTENSOR_DEVICE void operator()(const Block& block) const {
    S* const a_tile = block.shared<S>();
    S* const b_tile = a_tile + kDepth * kPitch;
    for (std::int64_t t = block.index; t < tiles; t += block.blocks) {
      const std::int64_t item = t / (down * across), at = t % (down * across);
      std::int64_t a = 0, b = 0, c = 0, rest = item;
      for (int d = p.batch_dims - 1; d >= 0; --d) {
        const auto dim = static_cast<std::size_t>(d);
        const std::int64_t i = rest % p.batch[dim];
        rest /= p.batch[dim];
        a += i * p.a.batch[dim];
        b += i * p.b.batch[dim];
        c += i * p.c.batch[dim];
      }
      tile(block, a_tile, b_tile, at / across * kTile, at % across * kTile, static_cast<const T*>(p.a.data) + a, static_cast<const T*>(p.b.data) + b,
           static_cast<const Out*>(p.c.data) + c, static_cast<Out*>(p.out) + item * p.m * p.n);
    }
  }

  DTENSOR_DEVICE void tile(const Block& block, S* a_tile, S* b_tile, std::int64_t i0, std::int64_t j0, const T* a, const T* b, const Out* c,
                           Out* out) const {
    const int across_part = block.thread % kSide, down_part = block.thread / kSide;
    S sum[kPart][kPart] = {};
    for (std::int64_t q0 = 0; q0 < p.k; q0 += kDepth) {
      fill(block.thread, a_tile, a, i0, p.m, p.a.row, q0, p.a.column);
      fill(block.thread, b_tile, b, j0, p.n, p.b.column, q0, p.b.row);
      block.sync();
      for (int q = 0; q < kDepth; ++q) {
        S left[kPart], right[kPart];
        for (int x = 0; x < kPart; ++x) left[x] = a_tile[q * kPitch + down_part * kPart + x];
        for (int y = 0; y < kPart; ++y) right[y] = b_tile[q * kPitch + y * kSide + across_part];
        for (int x = 0; x < kPart; ++x)
          for (int y = 0; y < kPart; ++y) sum[x][y] += left[x] * right[y];
      }
      block.sync();
    }
    for (int x = 0; x < kPart; ++x)
      for (int y = 0; y < kPart; ++y) {
        const std::int64_t i = i0 + down_part * kPart + x, j = j0 + y * kSide + across_part;
        if (i >= p.m || j >= p.n) continue;
        const S more = p.c.data == nullptr ? S(0) : beta * static_cast<S>(c[i * p.c.row + j * p.c.column]);
        out[i * p.n + j] = static_cast<Out>(alpha * sum[x][y] + more);
      }
  }

  // tile[q][x] = from[(x0 + x) * step + (q0 + q) * deep], zeros outside; neighbouring threads take what lies side by side.
  DTENSOR_DEVICE void fill(int thread, S* tile, const T* from, std::int64_t x0, std::int64_t size, std::int64_t step, std::int64_t q0,
                           std::int64_t deep) const {
    for (int e = thread; e < kTile * kDepth; e += kThreads) {
      const int q = deep <= step ? e % kDepth : e / kTile, x = deep <= step ? e / kDepth : e % kTile;
      const bool inside = x0 + x < size && q0 + q < p.k;
      tile[q * kPitch + x] = inside ? static_cast<S>(load(from[(x0 + x) * step + (q0 + q) * deep])) : S(0);
    }
  }
};

template <class T, class Out>
void run(const TiledProduct& p, Stream stream) {
  using S = Sum<T>;
  Tiles<T, Out> tiles{p, {}, {}, (p.m + kTile - 1) / kTile, (p.n + kTile - 1) / kTile, 0};
  if constexpr (std::is_integral_v<T>) {
    tiles.alpha = static_cast<S>(p.alpha.as_int());
    tiles.beta = static_cast<S>(p.beta.as_int());
  } else {
    tiles.alpha = static_cast<S>(p.alpha.as_double());
    tiles.beta = static_cast<S>(p.beta.as_double());
  }
  tiles.tiles = tiles.down * tiles.across;
  for (int d = 0; d < p.batch_dims; ++d) tiles.tiles *= p.batch[static_cast<std::size_t>(d)];
  launch_blocks("tiled product", std::min(tiles.tiles, kMostBlocks), kThreads, 2 * kDepth * kPitch * sizeof(S), stream, tiles);
}

}  // namespace

void tiled_product(const TiledProduct& p, Stream stream) {
  visit_arithmetic(p.dtype, [&]<class T>(std::type_identity<T>) {
    if constexpr (kIs16Bit<T>)
      if (p.out_dtype == Dtype::f32) return run<T, float>(p, stream);
    run<T, T>(p, stream);
  });
}

}  // namespace dtensor::local::cuda
