// SPDX-License-Identifier: Apache-2.0
// Products of groups of rows whose ends only the device knows: as many blocks as there can be tiles, each of which looks up its group.
#include <cstdint>
#include <string>
#include <type_traits>

#include "local/cuda/launch.h"
#include "local/cuda/mma.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/scalar_tiles.h"
#include "local/kernels/grouped_product.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

// A matrix whose lines lie `step` apart. Lines are what is summed over (`deep`), or rows of the left and columns of the right operand.
template <class T>
struct Lines {
  const T* data;
  std::int64_t step;
  bool aligned;  // 16 bytes, every line
};

// ---- 16-bit elements: the tensor cores
template <class T, bool left_deep, bool right_deep>
struct CoreTile {
  static constexpr int kTile = 128, kThreads = 256, kMostThreads = kThreads;
  static constexpr int kDepth = 64, kPiece = 8;  // elements of a copy of 16 bytes
  // Eight more per line, so that the eight lines of a matrix that is loaded lie in different banks.
  static constexpr int pitch(bool deep) { return (deep ? kTile : kDepth) + kPiece; }
  static constexpr int size(bool deep) { return pitch(deep) * (deep ? kDepth : kTile); }
  static constexpr std::size_t kBytes = 2 * (size(left_deep) + size(right_deep)) * sizeof(T);
  // Warps stand two down and four across.
  static constexpr int kDown = 4, kAcross = 4, kWarpRows = 16 * kDown, kWarpColumns = 8 * kAcross;

  template <class Put>
  DTENSOR_DEVICE static void run(const Block& block, const Lines<T>& a, const Lines<T>& b, std::int64_t i0, std::int64_t m, std::int64_t j0,
                                 std::int64_t n, std::int64_t q0, std::int64_t q1, const Put& put) {
    T* const left = block.shared<T>();
    T* const right = left + 2 * size(left_deep);
    SumsFragment sums[kDown][kAcross] = {};
    AsyncCopies copies;
    const auto begin = [&](int stage, std::int64_t q) {
      fill<left_deep>(block, copies, left + stage * size(left_deep), a, i0, m, q, q1);
      fill<right_deep>(block, copies, right + stage * size(right_deep), b, j0, n, q, q1);
    };
    if (q0 < q1) begin(0, q0);
    for (int stage = 0; q0 < q1; q0 += kDepth, stage ^= 1) {
      copies.wait();
      block.sync();  // the copies of all are there, and nobody reads the other stage any more
      if (q0 + kDepth < q1) begin(stage ^ 1, q0 + kDepth);
      multiply_stage(block, left + stage * size(left_deep), right + stage * size(right_deep), sums);
    }
    block.sync();
    const int g = block.lane() / 4, t = block.lane() % 4;
    const std::int64_t row = i0 + block.warp() / 4 * kWarpRows + g, column = j0 + block.warp() % 4 * kWarpColumns + 2 * t;
    DTENSOR_UNROLL
    for (int x = 0; x < kDown; ++x) DTENSOR_UNROLL
    for (int y = 0; y < kAcross; ++y) DTENSOR_UNROLL
    for (int h = 0; h < 2; ++h) {
      const std::int64_t i = row + 16 * x + 8 * h, j = column + 8 * y;
      if (i >= m) continue;
      if (j < n) put(i, j, sums[x][y].at[2 * h]);
      if (j + 1 < n) put(i, j + 1, sums[x][y].at[2 * h + 1]);
    }
  }

 private:
  // Lines of the tile at x0 (of what lies side by side, or of lines) and q; zeros outside.
  template <bool deep>
  DTENSOR_DEVICE static void fill(const Block& block, AsyncCopies& copies, T* to, const Lines<T>& from, std::int64_t x0, std::int64_t x1,
                                  std::int64_t q0, std::int64_t q1) {
    constexpr int kLines = deep ? kDepth : kTile, kPieces = (deep ? kTile : kDepth) / kPiece;
    const std::int64_t line0 = deep ? q0 : x0, lines = deep ? q1 : x1, along0 = deep ? x0 : q0, along = deep ? x1 : q1;
    for (int e = block.thread; e < kLines * kPieces; e += kThreads) {
      const int l = e / kPieces, c = e % kPieces * kPiece;
      const std::int64_t left = line0 + l < lines ? along - along0 - c : 0;
      const int count = static_cast<int>(left < 0 ? 0 : left < kPiece ? left : kPiece);
      const T* const source = count > 0 ? from.data + (line0 + l) * from.step + along0 + c : from.data;
      T* const target = to + l * pitch(deep) + c;
      if (from.aligned) copies.template begin<16>(target, source, count * static_cast<int>(sizeof(T)));
      else
        for (int j = 0; j < kPiece; ++j) target[j] = j < count ? source[j] : T{};
    }
  }
  DTENSOR_DEVICE static void multiply_stage(const Block& block, const T* left, const T* right, SumsFragment (&sums)[kDown][kAcross]) {
    const int lane = block.lane(), line = lane % 8, first = lane / 8 % 2 * 8, second = lane / 16 * 8;
    const int i = block.warp() / 4 * kWarpRows, j = block.warp() % 4 * kWarpColumns;
    DTENSOR_UNROLL
    for (int q = 0; q < kDepth; q += 16) {
      RowsFragment rows[kDown];
      ColumnsFragment columns[kAcross];
      DTENSOR_UNROLL
      for (int x = 0; x < kDown; ++x) {
        const int down = i + 16 * x;
        load_matrices<left_deep>(
            block, left_deep ? left + (q + line + second) * pitch(true) + down + first : left + (down + line + first) * pitch(false) + q + second,
            rows[x].word);
      }
      DTENSOR_UNROLL
      for (int y = 0; y < kAcross; y += 2) {
        const int across = j + 8 * y;
        std::uint32_t words[4];
        load_matrices<right_deep>(
            block,
            right_deep ? right + (q + line + first) * pitch(true) + across + second : right + (across + line + second) * pitch(false) + q + first,
            words);
        columns[y] = {{words[0], words[1]}};
        columns[y + 1] = {{words[2], words[3]}};
      }
      DTENSOR_UNROLL
      for (int x = 0; x < kDown; ++x) DTENSOR_UNROLL
      for (int y = 0; y < kAcross; ++y) multiply_add<T>(block, rows[x], columns[y], sums[x][y]);
    }
  }
};

// ---- the other elements, with the same face
template <class T, bool left_deep, bool right_deep>
struct PlainTile {
  using Tile = ScalarTile<T>;
  static constexpr int kTile = Tile::kTile, kThreads = Tile::kThreads, kMostThreads = kThreads;
  static constexpr std::size_t kBytes = Tile::kBytes;
  template <class Put>
  DTENSOR_DEVICE static void run(const Block& block, const Lines<T>& a, const Lines<T>& b, std::int64_t i0, std::int64_t m, std::int64_t j0,
                                 std::int64_t n, std::int64_t q0, std::int64_t q1, const Put& put) {
    Tile::run(block, {a.data, left_deep ? 1 : a.step, left_deep ? a.step : 1}, {b.data, right_deep ? b.step : 1, right_deep ? 1 : b.step}, i0, m, j0,
              n, q0, q1, put);
  }
};
template <class T, bool left_deep, bool right_deep>
using Tile = std::conditional_t<kIs16Bit<T>, CoreTile<T, left_deep, right_deep>, PlainTile<T, left_deep, right_deep>>;

// ---- groups
// bounds[e] and bounds[e + 1]: rows of group e; behind the last group stands one of all other rows. tiles[e]: its first tile of rows, tiles[groups + 1]: how
// many there are. By one warp.
template <class Index>
struct FindGroups {
  const Index* ends;
  std::int64_t groups, rows, tile;
  std::int64_t *bounds, *tiles;
  Fault* fault;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    std::int64_t last = 0, total = 0;
    for (std::int64_t base = 0; base <= groups; base += kWarp) {
      const std::int64_t e = base + b.lane(), given = e < groups ? static_cast<std::int64_t>(ends[e]) : rows;
      std::int64_t end = given < last ? last : given > rows ? rows : given;
      for (int d = 1; d < kWarp; d *= 2) {
        const std::int64_t before = b.from_lane_below(end, d);
        if (before > end) end = before;
      }
      const std::int64_t below = b.from_lane_below(end, 1), begin = b.lane() == 0 ? last : below;
      if (e < groups && (given < begin || given > rows)) raise(fault, given);
      std::int64_t count = (end - begin + tile - 1) / tile, sum = count;
      for (int d = 1; d < kWarp; d *= 2) {
        const std::int64_t before = b.from_lane_below(sum, d);
        if (b.lane() >= d) sum += before;
      }
      if (e <= groups) {
        bounds[e + 1] = end;
        tiles[e] = total + sum - count;
      }
      // Both rise with the lane: the last one's are the largest.
      for (int mask = kWarp / 2; mask > 0; mask /= 2) {
        const std::int64_t other_end = b.from_lane_xor(end, mask), other_sum = b.from_lane_xor(sum, mask);
        if (other_end > end) end = other_end;
        if (other_sum > sum) sum = other_sum;
      }
      last = end;
      total += sum;
    }
    if (b.lane() == 0) {
      bounds[0] = 0;
      tiles[groups + 1] = total;
    }
  }
};

// Tiles of columns that neighbouring blocks make of the same rows.
constexpr std::int64_t kBeside = 8;

template <class T, bool transposed>
struct GroupRows {
  using Of = Tile<T, false, !transposed>;
  static constexpr int kMostThreads = Of::kMostThreads;
  Lines<T> input, weight;
  T* out;
  const std::int64_t *bounds, *tiles;
  std::int64_t groups, k, n, down, across;  // down: tiles of rows that there can be
  DTENSOR_DEVICE void operator()(const Block& b) const {
    for (std::int64_t i = b.index; i < (across + kBeside - 1) / kBeside * kBeside * down; i += b.blocks) {
      const std::int64_t row_tile = i / kBeside % down, column_tile = i / kBeside / down * kBeside + i % kBeside;
      if (column_tile >= across || row_tile >= tiles[groups + 1]) continue;
      std::int64_t group = 0, end = groups + 1;  // the last group that begins at or before the tile
      while (end - group > 1) {
        const std::int64_t middle = (group + end) / 2;
        if (tiles[middle] <= row_tile) group = middle;
        else end = middle;
      }
      const bool behind = group == groups;
      const Lines<T> matrix{weight.data + (behind ? 0 : group * k * n), weight.step, weight.aligned};
      T* const to = out;
      const std::int64_t columns = n;
      Of::run(b, input, matrix, bounds[group] + (row_tile - tiles[group]) * Of::kTile, bounds[group + 1], column_tile * Of::kTile, n, 0,
              behind ? 0 : k, [to, columns](std::int64_t x, std::int64_t y, Accumulate<T> sum) { to[x * columns + y] = store<T>(sum); });
      b.sync();
    }
  }
};

template <class T>
struct GroupOuter {
  using Of = Tile<T, true, true>;
  static constexpr int kMostThreads = Of::kMostThreads;
  Lines<T> input, grad;
  T* out;
  const std::int64_t* bounds;
  std::int64_t groups, k, n, down, across;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    for (std::int64_t i = b.index; i < groups * down * across; i += b.blocks) {
      const std::int64_t group = i / (down * across), at = i % (down * across), columns = n;
      T* const to = out + group * k * n;
      Of::run(b, input, grad, at / across * Of::kTile, k, at % across * Of::kTile, n, bounds[group], bounds[group + 1],
              [to, columns](std::int64_t x, std::int64_t y, Accumulate<T> sum) { to[x * columns + y] = store<T>(sum); });
      b.sync();
    }
  }
};

// ---- on the host
class GroupsOnDevice {
 public:
  GroupsOnDevice(RankDevice& d, const cpu::Groups& g, std::int64_t rows, std::int64_t tile)
      : count_(g.ends.numel()), memory_(d, static_cast<std::size_t>(2 * (count_ + 2)) * sizeof(std::int64_t)) {
    Fault* const fault = d.faults.expect(d.current, [op = std::string(g.op), rows](std::int64_t end) { return cpu::wrong_end(op, end, rows); });
    visit_integral(g.ends.dtype(), [&]<class I>(std::type_identity<I>) {
      launch_blocks(
          "groups", 1, kWarp, 0, d.current,
          FindGroups<I>{g.ends.raw_as<const I>(), count_, rows, tile, memory_.as<std::int64_t>(), memory_.as<std::int64_t>() + count_ + 2, fault});
    });
  }
  std::int64_t count() const { return count_; }
  const std::int64_t* bounds() const { return memory_.as<const std::int64_t>(); }
  const std::int64_t* tiles() const { return memory_.as<const std::int64_t>() + count_ + 2; }

 private:
  std::int64_t count_;
  Scratch memory_;
};

template <class T>
Lines<T> lines(const Tensor& t) {
  const T* const data = t.raw_as<const T>();
  const std::int64_t step = t.shape().back();
  return {data, step, reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && step * static_cast<std::int64_t>(sizeof(T)) % 16 == 0};
}
std::int64_t tiles_of(std::int64_t size, std::int64_t tile) { return (size + tile - 1) / tile; }

template <class T, bool transposed>
void product(const Tensor& input, const Tensor& weight, const cpu::Groups& groups, const Tensor& out) {
  using Rows = GroupRows<T, transposed>;
  constexpr std::int64_t kTile = Rows::Of::kTile;
  RankDevice& d = rank_device(out);
  const std::int64_t rows = input.shape()[0], n = out.shape()[1];
  const GroupsOnDevice g(d, groups, rows, kTile);
  const std::int64_t down = tiles_of(rows, kTile) + g.count(), across = tiles_of(n, kTile);
  launch_blocks("grouped_product", std::min(tiles_of(across, kBeside) * kBeside * down, kMostBlocks), Rows::Of::kThreads, Rows::Of::kBytes, d.current,
                Rows{lines<T>(input), lines<T>(weight), out.raw_as<T>(), g.bounds(), g.tiles(), g.count(), input.shape()[1], n, down, across});
}

void grouped_product(const Tensor& input, const Tensor& weight, bool transposed, const cpu::Groups& groups, const Tensor& out) {
  visit_floating(out.dtype(), [&]<class T>(std::type_identity<T>) {
    if (transposed) product<T, true>(input, weight, groups, out);
    else product<T, false>(input, weight, groups, out);
  });
}

void grouped_outer(const Tensor& input, const Tensor& grad, const cpu::Groups& groups, const Tensor& out) {
  visit_floating(out.dtype(), [&]<class T>(std::type_identity<T>) {
    using Outer = GroupOuter<T>;
    constexpr std::int64_t kTile = Outer::Of::kTile;
    RankDevice& d = rank_device(out);
    const std::int64_t k = input.shape()[1], n = grad.shape()[1], down = tiles_of(k, kTile), across = tiles_of(n, kTile);
    const GroupsOnDevice g(d, groups, input.shape()[0], kTile);
    launch_blocks("grouped_outer", std::min(g.count() * down * across, kMostBlocks), Outer::Of::kThreads, Outer::Of::kBytes, d.current,
                  Outer{lines<T>(input), lines<T>(grad), out.raw_as<T>(), g.bounds(), g.count(), k, n, down, across});
  });
}

}  // namespace

void install_grouped_product() {
  kernels::grouped_product.cuda = grouped_product;
  kernels::grouped_outer.cuda = grouped_outer;
}

}  // namespace dtensor::local::cuda
