// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/tiled_product.h"

#include <type_traits>

#include "local/cuda/launch.h"
#include "local/cuda/scalar_tiles.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

template <class T, class Out>
struct Tiles {
  using S = TileSum<T>;
  using Tile = ScalarTile<T>;
  TiledProduct p;
  S alpha, beta;
  std::int64_t down, across, tiles;

  DTENSOR_DEVICE void operator()(const Block& block) const {
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
      const Out* const more = static_cast<const Out*>(p.c.data) + c;
      Out* const out = static_cast<Out*>(p.out) + item * p.m * p.n;
      Tile::run(block, {static_cast<const T*>(p.a.data) + a, p.a.row, p.a.column}, {static_cast<const T*>(p.b.data) + b, p.b.row, p.b.column},
                at / across * Tile::kTile, p.m, at % across * Tile::kTile, p.n, 0, p.k, [&](std::int64_t i, std::int64_t j, S sum) {
                  const S addend = p.c.data == nullptr ? S(0) : beta * static_cast<S>(load(more[i * p.c.row + j * p.c.column]));
                  out[i * p.n + j] = static_cast<Out>(alpha * sum + addend);
                });
    }
  }
};

template <class T, class Out>
void run(const TiledProduct& p, Stream stream) {
  using S = TileSum<T>;
  constexpr std::int64_t kTile = ScalarTile<T>::kTile;
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
  launch_blocks("tiled product", std::min(tiles.tiles, kMostBlocks), ScalarTile<T>::kThreads, ScalarTile<T>::kBytes, stream, tiles);
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
