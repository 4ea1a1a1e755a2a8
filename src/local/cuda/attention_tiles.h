// SPDX-License-Identifier: Apache-2.0
// A warp has 16 or 32 rows of the result and holds their sums and scores as fragments; in backward passes the operands that rows bring, too, which otherwise
// wait in shared memory. The other operands pass through shared memory in tiles of kColumns rows, the next one being copied while a tile is worked on. Rows
// are queries (out, the query's gradient) or keys (the gradients of key and value together); scores turn from sums into a left operand where they are, without
// a way through memory.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "local/cuda/attention_mma.h"
#include "local/cuda/launch.h"
#include "local/cuda/mma.h"

namespace dtensor::local::cuda::attention_tiles {

enum class Part { out, query, key_value };  // the result; all but out: gradients

inline constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;

constexpr int columns_of(int width, Part part) { return width > 128 || (width > 64 && part == Part::key_value) ? 32 : 64; }

// Rows of a matrix, `columns` wide, of which [0, rows) are there.
struct Matrix {
  const std::byte* data;
  std::int64_t row, column;  // strides
  std::int64_t rows;
  int columns;
  bool packs;  // of 8
};

// kRows: of a block.
template <class T, int kWidth, Part part, int kRows>
struct AttentionMma {
  static constexpr int kColumns = columns_of(kWidth, part), kSteps = kWidth / 16, kScores = kColumns / 8;
  static constexpr bool kBackward = part != Part::out, kOfKeys = part == Part::key_value;
  // Groups of 16 rows that a warp has: two share what is loaded of a tile, where registers suffice for both.
  static constexpr int kGroups = !kBackward && kWidth <= 128 && kRows == 128 ? 2 : 1, kWarps = kRows / (16 * kGroups), kThreads = kWarps * kWarp;
  static constexpr int kSums = kOfKeys ? 2 : 1;  // matrices of sums: by the first and the second tile of the columns

  AttentionProblem p;
  KeyParts parts;
  EarlierAttention earlier;
  AttentionSlopes slopes;
  AttentionResult result, second;  // of the sums by their number; key_value: the value's, the key's
  float* logsumexp;
  std::int64_t blocks;
  bool packs_q, packs_k, packs_v, packs_grad;

  // Of two tiles, that of one is worked on while the other is filled. Chunks of 8 elements are stored where the lanes of load_matrices find them in
  // different banks.
  struct Tile {
    T first[kColumns * kWidth], second[kColumns * kWidth];  // keys and values, or queries and gradients of out
    int seen[kColumns];                                     // of keys' columns: what of them is not in the tiles
    float logsumexp[kColumns], dots[kColumns];
  };
  struct Memory {
    alignas(16) Tile tile[2];
    T queries[kBackward ? 8 : kRows * kWidth];
  };
  static constexpr std::size_t kBytes = sizeof(Memory);

  struct Work {
    int batch, head, group, first;  // the head of the queries, that of the keys, the first row of the block
    int keys_part;
    int seen;  // rows are queries: the most keys that one sees
  };
  // The columns that come next.
  struct Step {
    int head, at;
    bool there;
  };
  // What a lane holds of its rows g and g + 8 of a group.
  struct Group {
    RowsFragment first[kBackward ? kSteps : 1], second[kBackward ? kSteps : 1];
    SumsFragment sums[kSums][2 * kSteps];
    float top[2], total[2];  // of out: the greatest score so far times log2 e, the sum of weights; of the query: logsumexp times log2 e, the dot
    int row, seen[2];        // g, and what that and g + 8 see
  };
  using Rows = Group[kGroups];

  DTENSOR_DEVICE void operator()(const Block& block) const {
    Memory& memory = *block.shared<Memory>();
    std::int64_t rest = block.index, number = cut_last(rest, blocks);
    if (!kOfKeys) number = blocks - 1 - number;  // late queries see most keys: they begin
    Work w{};
    w.first = static_cast<int>(number) * kRows;
    Step step{0, -kColumns, true};
    if constexpr (kOfKeys) {
      w.group = static_cast<int>(cut_last(rest, p.g));
      step.head = -1;
      step.at = static_cast<int>(p.t);
    } else {
      w.head = step.head = static_cast<int>(cut_last(rest, p.h));
      w.group = static_cast<int>(p.kv_head(w.head));
      w.seen = static_cast<int>(p.most_seen(w.first, kRows / kQueryGroup));
      if constexpr (part == Part::out) {
        w.keys_part = static_cast<int>(cut_last(rest, parts.count));
        step.at += static_cast<int>(parts.begin(w.keys_part));
        w.seen = static_cast<int>(parts.end(w.keys_part, w.seen));
      }
    }
    w.batch = static_cast<int>(rest);
    AsyncCopies copies;
    advance(w, step);
    if (step.there) fill(block, w, step, memory.tile[0], copies);
    if constexpr (!kBackward) fill<kRows>(block, queries(w, w.head), w.first, memory.queries, copies);
    Rows rows;
    DTENSOR_UNROLL for (int n = 0; n < kGroups; ++n) begin(block, w, first_row(block, w) + 16 * n, rows[n]);
    for (int which = 0; step.there; which ^= 1) {
      const Step now = step;
      copies.wait();
      block.sync();
      advance(w, step);
      if (step.there) fill(block, w, step, memory.tile[which ^ 1], copies);
      add_tile(block, w, now, memory, which, rows);
    }
    DTENSOR_UNROLL for (int n = 0; n < kGroups; ++n) finish(block, w, rows[n]);
  }
  static DTENSOR_DEVICE int first_row(const Block& block, const Work& w) { return w.first + block.warp() * 16 * kGroups; }

  DTENSOR_DEVICE void advance(const Work& w, Step& step) const {
    step.at += kColumns;
    if constexpr (!kOfKeys) {
      step.there = step.at < w.seen;
    } else {
      for (;; step.at += kColumns) {
        if (step.at >= p.t) {
          do ++step.head;
          while (step.head < p.h && p.kv_head(step.head) != w.group);
          step.at = 0;
          step.there = step.head < p.h && p.t > 0;
          if (!step.there) return;
        }
        if (p.most_seen(step.at, 1) > w.first) return;
      }
    }
  }

  DTENSOR_DEVICE Matrix matrix(const AttentionOperand& o, std::int64_t b, std::int64_t h, std::int64_t rows, std::int64_t columns, bool packs) const {
    return {o.data + o.matrix(b, h) * 2, o.strides[2], o.strides[3], rows, static_cast<int>(columns), packs};
  }
  DTENSOR_DEVICE Matrix queries(const Work& w, std::int64_t head) const { return matrix(p.query, w.batch, head, p.t, p.d, packs_q); }
  DTENSOR_DEVICE Matrix grads(const Work& w, std::int64_t head) const { return matrix(slopes.grad, w.batch, head, p.t, p.e, packs_grad); }
  DTENSOR_DEVICE Matrix keys(const Work& w) const { return matrix(p.key, w.batch, w.group, p.s, p.d, packs_k); }
  DTENSOR_DEVICE Matrix values(const Work& w) const { return matrix(p.value, w.batch, w.group, p.s, p.e, packs_v); }
  DTENSOR_DEVICE int first_steps() const { return static_cast<int>(p.d + 15) / 16; }
  DTENSOR_DEVICE int second_steps() const { return static_cast<int>(p.e + 15) / 16; }

  // ---- tiles
  static DTENSOR_DEVICE int place(int row, int chunk) { return row * kWidth + (chunk ^ (row & 7)) * 8; }

  DTENSOR_DEVICE void fill(const Block& block, const Work& w, const Step& step, Tile& tile, AsyncCopies& copies) const {
    fill<kColumns>(block, kOfKeys ? queries(w, step.head) : keys(w), step.at, tile.first, copies);
    fill<kColumns>(block, kOfKeys ? grads(w, step.head) : values(w), step.at, tile.second, copies);
    if constexpr (kOfKeys) {
      const std::int64_t i = step.at + block.thread;
      if (block.thread >= kColumns) return;
      const std::int64_t row = (w.batch * p.h + step.head) * p.t + i;
      const bool there = i < p.t;
      const auto& lse = slopes.logsumexp;
      tile.seen[block.thread] = there ? static_cast<int>(p.seen(i)) : 0;
      copies.begin<4>(&tile.logsumexp[block.thread],
                      lse.data + (there ? lse.strides[1] * w.batch + lse.strides[2] * step.head + lse.strides[3] * i : 0) * 4, there ? 4 : 0);
      copies.begin<4>(&tile.dots[block.thread], static_cast<const float*>(slopes.dots) + (there ? row : 0), there ? 4 : 0);
    }
  }
  template <int kCount>
  static DTENSOR_DEVICE void fill(const Block& block, const Matrix& m, std::int64_t first, T* to, AsyncCopies& copies) {
    const int chunks = (m.columns + 15) / 16 * 2;
    for (int i = block.thread; i < kCount * (kWidth / 8); i += kThreads) {
      const int r = i / (kWidth / 8), c = i % (kWidth / 8);
      if (c >= chunks) continue;
      T* at = to + place(r, c);
      const std::int64_t row = first + r;
      const int left = row >= m.rows || c * 8 >= m.columns ? 0 : m.columns - c * 8 < 8 ? m.columns - c * 8 : 8;
      const T* from = reinterpret_cast<const T*>(m.data) + (left > 0 ? row * m.row + c * 8 * m.column : 0);
      if (m.packs) {
        copies.begin<16>(at, from, left * 2);
      } else {
        for (int k = 0; k < 8; ++k) at[k] = k < left ? from[k * m.column] : T();
      }
    }
  }

  // ---- rows
  static DTENSOR_DEVICE std::uint32_t two_of(const Matrix& m, std::int64_t row, int column) {
    std::uint32_t low = 0, high = 0;
    if (row < m.rows) {
      const T* at = reinterpret_cast<const T*>(m.data) + row * m.row + column * m.column;
      if (m.packs && column + 1 < m.columns) return *reinterpret_cast<const std::uint32_t*>(at);
      if (column < m.columns) low = at[0].bits;
      if (column + 1 < m.columns) high = at[m.column].bits;
    }
    return low | high << 16;
  }
  static DTENSOR_DEVICE void read_rows(const Block& block, const Matrix& m, int row, RowsFragment (&to)[kBackward ? kSteps : 1]) {
    DTENSOR_UNROLL for (int k = 0; k < kSteps; ++k) {
      DTENSOR_UNROLL for (int i = 0; i < 4; ++i) to[k].word[i] = two_of(m, row + i % 2 * 8, k * 16 + i / 2 * 8 + block.lane() % 4 * 2);
    }
  }

  DTENSOR_DEVICE void begin(const Block& block, const Work& w, int first, Group& rows) const {
    rows.row = first + block.lane() / 4;
    DTENSOR_UNROLL for (int r = 0; r < 2; ++r) {
      const int row = rows.row + 8 * r;
      rows.seen[r] = !kOfKeys && row < p.t ? static_cast<int>(p.seen(row)) : 0;
      rows.top[r] = kNoScore<float>;
      rows.total[r] = 0;
    }
    DTENSOR_UNROLL for (int n = 0; n < kSums; ++n) { DTENSOR_UNROLL for (int c = 0; c < 2 * kSteps; ++c) rows.sums[n][c] = {}; }
    if constexpr (kBackward) {
      read_rows(block, kOfKeys ? keys(w) : queries(w, w.head), rows.row, rows.first);
      read_rows(block, kOfKeys ? values(w) : grads(w, w.head), rows.row, rows.second);
    }
    if constexpr (!kOfKeys) begin_queries(block, w, rows);
  }
  DTENSOR_DEVICE void begin_queries(const Block& block, const Work& w, Group& rows) const {
    DTENSOR_UNROLL for (int r = 0; r < 2; ++r) {
      const int i = rows.row + 8 * r;
      if (i >= p.t) continue;
      const std::int64_t row = (w.batch * p.h + w.head) * p.t + i;
      if constexpr (kBackward) {
        const auto& lse = slopes.logsumexp;
        rows.top[r] = lse.at<float>(lse.strides[1] * w.batch + lse.strides[2] * w.head + lse.strides[3] * i) * kLog2E;
        rows.total[r] = static_cast<const float*>(slopes.dots)[row];
      } else if (earlier.logsumexp != nullptr) {
        rows.top[r] = static_cast<const float*>(earlier.logsumexp)[row] * kLog2E;
        rows.total[r] = rows.top[r] == kNoScore<float> ? 0.0f : 1.0f;
        DTENSOR_UNROLL for (int c = 0; c < 2 * kSteps; ++c) {
          DTENSOR_UNROLL for (int k = 0; k < 2; ++k) {
            const int x = c * 8 + block.lane() % 4 * 2 + k;
            if (x < p.e) rows.sums[0][c].at[2 * r + k] = static_cast<const float*>(earlier.out)[row * p.e + x];
          }
        }
      }
    }
  }

  // ---- products
  using GroupScores = SumsFragment[kScores];
  using Scores = GroupScores[kGroups];

  // scores += rows . rows of the tile; the rows' fragments by part_of_rows(group, step).
  template <class F>
  static DTENSOR_DEVICE void dot_rows(const Block& block, const F& part_of_rows, const T* tile, int steps, Scores& scores) {
    const int m = block.lane() / 8, r = block.lane() % 8;
    DTENSOR_UNROLL for (int k = 0; k < kSteps; ++k) {
      if (k >= steps) continue;
      RowsFragment a[kGroups];
      DTENSOR_UNROLL for (int g = 0; g < kGroups; ++g) a[g] = part_of_rows(g, k);
      DTENSOR_UNROLL for (int n = 0; n < kScores / 2; ++n) {
        std::uint32_t b[4];
        load_matrices<false>(block, tile + place(n * 16 + m / 2 * 8 + r, 2 * k + m % 2), b);
        DTENSOR_UNROLL for (int g = 0; g < kGroups; ++g) {
          multiply_add<T>(block, a[g], {{b[0], b[1]}}, scores[g][2 * n]);
          multiply_add<T>(block, a[g], {{b[2], b[3]}}, scores[g][2 * n + 1]);
        }
      }
    }
  }
  // Sums number `which` += weights x tile.
  template <int which>
  static DTENSOR_DEVICE void add_product(const Block& block, const Scores& weights, const T* tile, int steps, Rows& rows) {
    const int m = block.lane() / 8, r = block.lane() % 8;
    DTENSOR_UNROLL for (int k = 0; k < kScores / 2; ++k) {
      RowsFragment a[kGroups];
      DTENSOR_UNROLL for (int g = 0; g < kGroups; ++g) {
        const SumsFragment &x = weights[g][2 * k], &y = weights[g][2 * k + 1];
        a[g] = {{pack<T>(x.at[0], x.at[1]), pack<T>(x.at[2], x.at[3]), pack<T>(y.at[0], y.at[1]), pack<T>(y.at[2], y.at[3])}};
      }
      DTENSOR_UNROLL for (int n = 0; n < kSteps; ++n) {
        if (n >= steps) continue;
        std::uint32_t b[4];
        load_matrices<true>(block, tile + place(k * 16 + m % 2 * 8 + r, 2 * n + m / 2), b);
        DTENSOR_UNROLL for (int g = 0; g < kGroups; ++g) {
          multiply_add<T>(block, a[g], {{b[0], b[1]}}, rows[g].sums[which][2 * n]);
          multiply_add<T>(block, a[g], {{b[2], b[3]}}, rows[g].sums[which][2 * n + 1]);
        }
      }
    }
  }
  static DTENSOR_DEVICE void clear(Scores& scores) {
    DTENSOR_UNROLL for (int g = 0; g < kGroups; ++g) { DTENSOR_UNROLL for (int c = 0; c < kScores; ++c) scores[g][c] = {}; }
  }

  DTENSOR_DEVICE void add_tile(const Block& block, const Work& w, const Step& step, const Memory& memory, int which, Rows& rows) const {
    if (hidden(block, w, step)) return;
    const Tile& tile = memory.tile[which];
    Scores scores;
    clear(scores);
    if constexpr (!kBackward) {
      const int m = block.lane() / 8, r = block.lane() % 8, row = block.warp() * 16 * kGroups + m % 2 * 8 + r;
      const auto query = [&](int g, int k) {
        RowsFragment a;
        load_matrices<false>(block, memory.queries + place(row + 16 * g, 2 * k + m / 2), a.word);
        return a;
      };
      dot_rows(block, query, tile.first, first_steps(), scores);
      DTENSOR_UNROLL for (int g = 0; g < kGroups; ++g) {
        score(block, w, step, tile, rows[g], scores[g]);
        absorb(block, rows[g], scores[g]);
      }
      add_product<0>(block, scores, tile.second, second_steps(), rows);
    } else {
      dot_rows(
          block, [&](int g, int k) { return rows[g].first[k]; }, tile.first, first_steps(), scores);
      score(block, w, step, tile, rows[0], scores[0]);
      Scores products;
      clear(products);
      dot_rows(
          block, [&](int g, int k) { return rows[g].second[k]; }, tile.second, second_steps(), products);
      weigh(block, tile, rows[0], scores[0]);
      if constexpr (kOfKeys) add_product<0>(block, scores, tile.second, second_steps(), rows);
      slope(block, tile, rows[0], products[0], scores[0]);
      add_product<kSums - 1>(block, scores, tile.first, first_steps(), rows);
    }
  }
  // Whether no row of the warp sees or is seen by a column of the tile.
  DTENSOR_DEVICE bool hidden(const Block& block, const Work& w, const Step& step) const {
    const int first = first_row(block, w);
    if constexpr (kOfKeys) return first >= p.s || p.most_seen(step.at, 1) <= first;
    else return first >= p.t || p.most_seen(first, 1) <= step.at;
  }

  // From products to scores times log2 e: -inf where a key is not seen.
  DTENSOR_DEVICE void score(const Block& block, const Work& w, const Step& step, const Tile& tile, const Group& rows, GroupScores& scores) const {
    const float scale = static_cast<float>(p.scale), factor = scale * kLog2E;
    const int first = rows.row - block.lane() / 4;
    const bool all = kOfKeys ? step.at + kColumns <= p.t && p.least_seen(step.at, 1) >= first + 16
                             : first + 16 <= p.t && p.least_seen(first, 1) >= step.at + kColumns;
    if (all && p.mask.data == nullptr) {
      DTENSOR_UNROLL for (int c = 0; c < kScores; ++c) { DTENSOR_UNROLL for (int i = 0; i < 4; ++i) scores[c].at[i] *= factor; }
      return;
    }
    DTENSOR_UNROLL for (int c = 0; c < kScores; ++c) {
      DTENSOR_UNROLL for (int i = 0; i < 4; ++i) {
        const int column = c * 8 + block.lane() % 4 * 2 + i % 2;
        const int row = rows.row + i / 2 * 8, other = step.at + column;
        const bool here = kOfKeys ? row < tile.seen[column] : other < rows.seen[i / 2];
        float& value = scores[c].at[i];
        if (!here) value = kNoScore<float>;
        else if (p.mask.data == nullptr) value *= factor;
        else value = p.masked(value * scale, w.batch, step.head, kOfKeys ? other : row, kOfKeys ? row : other) * kLog2E;
      }
    }
  }

  // Turns scores into weights relative to the greatest of their row so far, and rescales what was summed before.
  static DTENSOR_DEVICE void absorb(const Block& block, Group& rows, GroupScores& scores) {
    DTENSOR_UNROLL for (int r = 0; r < 2; ++r) {
      float high = rows.top[r];
      DTENSOR_UNROLL for (int c = 0; c < kScores; ++c) high = std::fmax(high, std::fmax(scores[c].at[2 * r], scores[c].at[2 * r + 1]));
      high = std::fmax(high, block.from_lane_xor(high, 1));
      high = std::fmax(high, block.from_lane_xor(high, 2));
      const float from = high == kNoScore<float> ? 0.0f : high;
      const float factor = rows.top[r] == high ? 1.0f : power_of_two(rows.top[r] - from);
      float sum = 0;
      DTENSOR_UNROLL for (int c = 0; c < kScores; ++c) {
        DTENSOR_UNROLL for (int i = 2 * r; i < 2 * r + 2; ++i) {
          scores[c].at[i] = power_of_two(scores[c].at[i] - from);
          sum += scores[c].at[i];
        }
      }
      sum += block.from_lane_xor(sum, 1);
      sum += block.from_lane_xor(sum, 2);
      rows.total[r] = rows.total[r] * factor + sum;
      rows.top[r] = high;
      DTENSOR_UNROLL for (int c = 0; c < 2 * kSteps; ++c) {
        rows.sums[0][c].at[2 * r] *= factor;
        rows.sums[0][c].at[2 * r + 1] *= factor;
      }
    }
  }

  // The weights that the forward pass had.
  static DTENSOR_DEVICE void weigh(const Block& block, const Tile& tile, const Group& rows, GroupScores& scores) {
    DTENSOR_UNROLL for (int c = 0; c < kScores; ++c) {
      DTENSOR_UNROLL for (int i = 0; i < 4; ++i) {
        const float lse = kOfKeys ? tile.logsumexp[c * 8 + block.lane() % 4 * 2 + i % 2] * kLog2E : rows.top[i / 2];
        scores[c].at[i] = lse == kNoScore<float> ? 0.0f : power_of_two(scores[c].at[i] - lse);
      }
    }
  }
  // The gradient of the scores.
  static DTENSOR_DEVICE void slope(const Block& block, const Tile& tile, const Group& rows, const GroupScores& products, GroupScores& scores) {
    DTENSOR_UNROLL for (int c = 0; c < kScores; ++c) {
      DTENSOR_UNROLL for (int i = 0; i < 4; ++i) scores[c].at[i] *=
          products[c].at[i] - (kOfKeys ? tile.dots[c * 8 + block.lane() % 4 * 2 + i % 2] : rows.total[i / 2]);
    }
  }

  DTENSOR_DEVICE void finish(const Block& block, const Work& w, const Group& rows) const {
    const std::int64_t length = kOfKeys ? p.s : p.t, head = kOfKeys ? w.batch * p.g + w.group : (w.keys_part * p.b + w.batch) * p.h + w.head;
    DTENSOR_UNROLL for (int r = 0; r < 2; ++r) {
      if (rows.row + 8 * r >= length) continue;
      const std::int64_t row = head * length + rows.row + 8 * r;
      const float total = rows.total[r], scale = static_cast<float>(p.scale);
      if constexpr (part == Part::out) {
        if (block.lane() % 4 == 0) logsumexp[row] = total == 0 ? kNoScore<float> : (rows.top[r] + std::log2(total)) * kLn2;
        put_row(block, rows.sums[0], r, total == 0 ? 0.0f : 1 / total, result, row, p.e);
      } else if constexpr (part == Part::query) {
        put_row(block, rows.sums[0], r, scale, result, row, p.d);
      } else {
        put_row(block, rows.sums[0], r, 1, result, row, p.e);
        put_row(block, rows.sums[1], r, scale, second, row, p.d);
      }
    }
  }
  static DTENSOR_DEVICE void put_row(const Block& block, const SumsFragment (&sums)[2 * kSteps], int r, float factor, const AttentionResult& to,
                                     std::int64_t row, std::int64_t width) {
    const bool pairs = width % 2 == 0 && to.dtype == dtype_of<T>() && reinterpret_cast<std::uintptr_t>(to.data) % 4 == 0;
    DTENSOR_UNROLL for (int c = 0; c < 2 * kSteps; ++c) {
      const std::int64_t x = c * 8 + block.lane() % 4 * 2;
      const float first = sums[c].at[2 * r] * factor, next = sums[c].at[2 * r + 1] * factor;
      if (x >= width) continue;
      if (pairs) {
        reinterpret_cast<std::uint32_t*>(to.data)[(row * width + x) / 2] = pack<T>(first, next);
      } else {
        to.put(row * width + x, first);
        if (x + 1 < width) to.put(row * width + x + 1, next);
      }
    }
  }
};

struct Results {
  AttentionResult first, second;
  float* logsumexp = nullptr;
};

/// Shared memory of a block of threads.
template <Part part, int kWidth, int kRows>
constexpr std::size_t bytes_of() {
  return AttentionMma<BFloat16, kWidth, part, kRows>::kBytes;
}

template <Part part, int kWidth, int kRows>
void make(const char* name, const AttentionProblem& p, const KeyParts& parts, const EarlierAttention& earlier, const AttentionSlopes& slopes,
          const Results& to, Stream stream) {
  const std::int64_t rows = part == Part::key_value ? p.s : p.t, blocks = (rows + kRows - 1) / kRows;
  const auto run = [&]<class T>(std::type_identity<T>) {
    using Kernel = AttentionMma<T, kWidth, part, kRows>;
    launch_blocks(name, p.b * (part == Part::key_value ? p.g : p.h) * blocks * parts.count, Kernel::kThreads, Kernel::kBytes, stream,
                  Kernel{p, parts, earlier, slopes, to.first, to.second, to.logsumexp, blocks, in_packs(p.query, 8), in_packs(p.key, 8),
                         in_packs(p.value, 8), slopes.grad.data != nullptr && in_packs(slopes.grad, 8)});
  };
  p.query.dtype == Dtype::bf16 ? run(std::type_identity<BFloat16>()) : run(std::type_identity<Half>());
}

// out by blocks of kRows queries.
template <int kRows>
void make_out(const AttentionProblem& p, const KeyParts& parts, const EarlierAttention& earlier, const AttentionResult& out, float* logsumexp,
              Stream stream) {
  const Results to{out, {}, logsumexp};
  if (width_of(p) <= 64) make<Part::out, 64, kRows>("attention", p, parts, earlier, {}, to, stream);
  else if (width_of(p) <= 128) make<Part::out, 128, kRows>("attention", p, parts, earlier, {}, to, stream);
  else make<Part::out, 256, kRows>("attention", p, parts, earlier, {}, to, stream);
}
template <int kRows>
std::size_t out_bytes(const AttentionProblem& p) {
  return width_of(p) <= 64    ? bytes_of<Part::out, 64, kRows>()
         : width_of(p) <= 128 ? bytes_of<Part::out, 128, kRows>()
                              : bytes_of<Part::out, 256, kRows>();
}

}  // namespace dtensor::local::cuda::attention_tiles
