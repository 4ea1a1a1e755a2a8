// SPDX-License-Identifier: Apache-2.0
// Attention in tiles of scores that live in registers and shared memory. All four results are sums over tiles, weights of rows times another operand:
// out and the query's gradient over the keys of a block of queries, the gradients of value and key over the queries of a block of keys. A block of
// threads makes one block of rows of one result, so nothing is added to from two sides.
#include <algorithm>
#include <cmath>

#include "local/cuda/attention_mma.h"
#include "local/cuda/attention_problem.h"
#include "local/cuda/launch.h"
#include "local/cuda/library_attention.h"

namespace dtensor::local::cuda {
namespace {

enum class Part { out, query, key, value };  // the result; all but out: its gradient
constexpr bool of_queries(Part part) { return part == Part::out || part == Part::query; }

constexpr int kSide = 16, kThreads = kSide * kSide;  // threads of a block as a square
constexpr int kRows = 64, kRowsEach = kRows / kSide;
constexpr int kDepth = 16;  // of the operands' chunks in shared memory
constexpr int kPad = 4;

template <class C>
constexpr int kColumns = 256 / static_cast<int>(sizeof(C));  // of a tile

template <class C, int N>
struct alignas(N * sizeof(C) < 16 ? N * sizeof(C) : 16) Several {
  C at[N];
};
template <class C>
using Four = Several<C, 4>;

// Rows of a matrix: row i begins at offset + i * step.
struct RowsOf {
  const AttentionOperand* operand;
  std::int64_t offset, first, rows, columns;  // the rows [first, rows) are there
  bool packs;
};

template <class C, int kWidth, Part part>
struct AttentionPart {
  static constexpr int kKeys = kColumns<C>, kColumnsEach = kKeys / kSide, kWide = kWidth / kSide;
  static constexpr bool kGradient = part != Part::out;
  static constexpr bool kSlopes = part == Part::query || part == Part::key;  // weights times (grad . value - dot)
  static_assert(kKeys % kDepth == 0 && kWide % 4 == 0);

  AttentionProblem p;
  KeyParts parts;
  AttentionSlopes slopes;
  EarlierAttention earlier;
  AttentionResult result;
  void* logsumexp;
  std::int64_t blocks, slices;
  bool packs_q, packs_k, packs_v, packs_grad;

  struct Memory {
    union {
      struct {
        C a[kDepth][kRows + kPad], b[kDepth][kKeys + kPad];
      } operands;
      C x[kDepth][kWidth];
    };
    alignas(16) C weights[kKeys][kRows + kPad];
  };
  struct Work {
    std::int64_t batch, head, group, first, slice;  // the head of the queries, that of the keys, the first row, the first column of the result
    std::int64_t keys_part;
  };
  using Scores = C[kRowsEach][kColumnsEach];

  DTENSOR_DEVICE std::int64_t rows() const { return of_queries(part) ? p.t : p.s; }
  DTENSOR_DEVICE std::int64_t width() const { return part == Part::out || part == Part::value ? p.e : p.d; }

  DTENSOR_DEVICE void operator()(const Block& block) const {
    std::int64_t rest = block.index;
    Work w{};
    w.slice = cut_last(rest, slices) * kWidth;
    std::int64_t number = cut_last(rest, blocks);
    // Late queries see most keys: they begin.
    if (of_queries(part)) number = blocks - 1 - number;
    w.first = number * kRows;
    C sums[kRowsEach][kWide] = {};
    C top[kRowsEach], total[kRowsEach];
    if constexpr (of_queries(part)) {
      w.head = cut_last(rest, p.h);
      w.keys_part = cut_last(rest, parts.count);
      w.batch = rest;
      w.group = p.kv_head(w.head);
      if constexpr (part == Part::out) begin(block, w, sums, top, total);
      const std::int64_t end = parts.end(w.keys_part, p.most_seen(w.first, kRows / kQueryGroup));
      for (std::int64_t j = parts.begin(w.keys_part); j < end; j += kKeys) add_tile(block, w, j, sums, top, total);
    } else {
      w.group = cut_last(rest, p.g);
      w.batch = rest;
      for (w.head = 0; w.head < p.h; ++w.head) {
        if (p.kv_head(w.head) != w.group) continue;
        for (std::int64_t i = 0; i < p.t; i += kKeys)
          if (p.most_seen(i, 1) > w.first) add_tile(block, w, i, sums, top, total);
      }
    }
    finish(block, w, sums, top, total);
  }

  // The tile of rows w.first .. and columns `other` ..: of queries and keys, or the other way round.
  DTENSOR_DEVICE void add_tile(const Block& block, const Work& w, std::int64_t other, C (&sums)[kRowsEach][kWide], C (&top)[kRowsEach],
                               C (&total)[kRowsEach]) const {
    Memory& memory = *block.shared<Memory>();
    const RowsOf q{&p.query, p.query.matrix(w.batch, w.head), of_queries(part) ? w.first : other, p.t, p.d, packs_q};
    const RowsOf k{&p.key, p.key.matrix(w.batch, w.group), of_queries(part) ? other : w.first, p.s, p.d, packs_k};
    const RowsOf v{&p.value, p.value.matrix(w.batch, w.group), k.first, p.s, p.e, packs_v};
    const RowsOf grad{&slopes.grad, slopes.grad.matrix(w.batch, w.head), q.first, p.t, p.e, packs_grad};
    Scores scores = {}, products = {};
    dot_rows(block, memory, of_queries(part) ? q : k, of_queries(part) ? k : q, scores);
    if constexpr (kSlopes) dot_rows(block, memory, of_queries(part) ? grad : v, of_queries(part) ? v : grad, products);
    score(block, w, other, scores);
    if constexpr (kGradient) weigh(block, w, other, scores, products);
    else absorb(scores, block, sums, top, total);
    if (p.d == 0) block.sync();  // no dot product has: the weights of the tile before may still be read
    const int row = block.thread / kSide * kRowsEach, column = block.thread % kSide * kColumnsEach;
    DTENSOR_UNROLL for (int c = 0; c < kColumnsEach; ++c) {
      Four<C> four;
      DTENSOR_UNROLL for (int r = 0; r < kRowsEach; ++r) four.at[r] = scores[r][c];
      *reinterpret_cast<Four<C>*>(&memory.weights[column + c][row]) = four;
    }
    add_product(block, memory, part == Part::out ? v : part == Part::query ? k : part == Part::key ? q : grad, w.slice, sums);
  }

  // Four neighbours of a row, 0 where there is none.
  static DTENSOR_DEVICE Four<C> four_of(const RowsOf& m, std::int64_t row, std::int64_t column) {
    Four<C> result{};
    row += m.first;
    if (row >= m.rows || column >= m.columns) return result;
    const std::int64_t step = m.operand->strides[3], at = m.offset + row * m.operand->strides[2] + column * step;
    const auto dtype = m.operand->dtype;
    if (m.packs && column + 4 <= m.columns && (dtype == dtype_of<C>()))
      return *reinterpret_cast<const Four<C>*>(m.operand->data + at * static_cast<std::int64_t>(sizeof(C)));
    for (int i = 0; i < 4; ++i)
      if (column + i < m.columns) result.at[i] = m.operand->template at<C>(at + i * step);
    return result;
  }

  // scores += a[row] . b[column], all of the rows' width.
  DTENSOR_DEVICE void dot_rows(const Block& block, Memory& memory, const RowsOf& a, const RowsOf& b, Scores& scores) const {
    const int row = block.thread / kSide * kRowsEach, column = block.thread % kSide * kColumnsEach;
    for (std::int64_t begin = 0; begin < a.columns; begin += kDepth) {
      block.sync();
      for (int i = block.thread; i < kRows * (kDepth / 4); i += kThreads) put_column(memory.operands.a, a, i, begin);
      for (int i = block.thread; i < kKeys * (kDepth / 4); i += kThreads) put_column(memory.operands.b, b, i, begin);
      block.sync();
      for (int k = 0; k < kDepth; ++k) {
        const Four<C> x = *reinterpret_cast<const Four<C>*>(&memory.operands.a[k][row]);
        const auto y = *reinterpret_cast<const Several<C, kColumnsEach>*>(&memory.operands.b[k][column]);
        DTENSOR_UNROLL for (int c = 0; c < kColumnsEach; ++c) {
          DTENSOR_UNROLL for (int r = 0; r < kRowsEach; ++r) scores[r][c] += x.at[r] * y.at[c];
        }
      }
    }
  }
  template <int N>
  static DTENSOR_DEVICE void put_column(C (&to)[kDepth][N], const RowsOf& from, int i, std::int64_t begin) {
    const int row = i / (kDepth / 4), k = i % (kDepth / 4) * 4;
    const Four<C> four = four_of(from, row, begin + k);
    for (int n = 0; n < 4; ++n) to[k + n][row] = four.at[n];
  }

  // sums += weights x rows of m, columns from `slice` on.
  DTENSOR_DEVICE void add_product(const Block& block, Memory& memory, const RowsOf& m, std::int64_t slice, C (&sums)[kRowsEach][kWide]) const {
    const int row = block.thread / kSide * kRowsEach, column = block.thread % kSide * 4;
    for (int begin = 0; begin < kKeys; begin += kDepth) {
      block.sync();
      for (int i = block.thread; i < kDepth * (kWidth / 4); i += kThreads) {
        const int k = i / (kWidth / 4), c = i % (kWidth / 4) * 4;
        *reinterpret_cast<Four<C>*>(&memory.x[k][c]) = four_of(m, begin + k, slice + c);
      }
      block.sync();
      for (int k = 0; k < kDepth; ++k) {
        const Four<C> x = *reinterpret_cast<const Four<C>*>(&memory.weights[begin + k][row]);
        for (int part_of_row = 0; part_of_row < kWide / 4; ++part_of_row) {
          const Four<C> y = *reinterpret_cast<const Four<C>*>(&memory.x[k][part_of_row * 4 * kSide + column]);
          for (int c = 0; c < 4; ++c) DTENSOR_UNROLL for (int r = 0; r < kRowsEach; ++r) sums[r][part_of_row * 4 + c] += x.at[r] * y.at[c];
        }
      }
    }
  }

  // From products to scores: -inf where a key is not seen or is beyond the last one, or the query is.
  DTENSOR_DEVICE void score(const Block& block, const Work& w, std::int64_t other, Scores& scores) const {
    const std::int64_t row = w.first + block.thread / kSide * kRowsEach, column = other + block.thread % kSide * kColumnsEach;
    DTENSOR_UNROLL for (int r = 0; r < kRowsEach; ++r) DTENSOR_UNROLL for (int c = 0; c < kColumnsEach; ++c) {
      const std::int64_t i = of_queries(part) ? row + r : column + c, j = of_queries(part) ? column + c : row + r;
      const C value = static_cast<C>(p.scale) * scores[r][c];
      if (i >= p.t || j >= p.seen(i)) scores[r][c] = kNoScore<C>;
      else scores[r][c] = p.mask.data == nullptr ? value : p.masked(value, w.batch, w.head, i, j);
    }
  }

  // Rows begin with nothing seen, or with what the call brings: its out is a sum whose weights add up to one.
  DTENSOR_DEVICE void begin(const Block& block, const Work& w, C (&sums)[kRowsEach][kWide], C (&top)[kRowsEach], C (&total)[kRowsEach]) const {
    DTENSOR_UNROLL for (int r = 0; r < kRowsEach; ++r) {
      const std::int64_t i = w.first + block.thread / kSide * kRowsEach + r, row = (w.batch * p.h + w.head) * p.t + i;
      top[r] = kNoScore<C>;
      total[r] = 0;
      if (earlier.logsumexp == nullptr || i >= p.t) continue;
      top[r] = static_cast<const C*>(earlier.logsumexp)[row];
      total[r] = top[r] == kNoScore<C> ? C(0) : C(1);
      DTENSOR_UNROLL for (int c = 0; c < kWide; ++c) if (const std::int64_t x = column_of(block, w, c); x < p.e) sums[r][c] =
          static_cast<const C*>(earlier.out)[row * p.e + x];
    }
  }
  static DTENSOR_DEVICE std::int64_t column_of(const Block& block, const Work& w, int c) {
    return w.slice + c / 4 * 4 * kSide + block.thread % kSide * 4 + c % 4;
  }

  // Turns scores into weights relative to the greatest of their row so far, and rescales what was summed before.
  DTENSOR_DEVICE void absorb(Scores& scores, const Block& block, C (&sums)[kRowsEach][kWide], C (&top)[kRowsEach], C (&total)[kRowsEach]) const {
    DTENSOR_UNROLL for (int r = 0; r < kRowsEach; ++r) {
      C high = top[r];
      DTENSOR_UNROLL for (int c = 0; c < kColumnsEach; ++c) high = scores[r][c] > high ? scores[r][c] : high;
      for (int mask = kSide / 2; mask > 0; mask /= 2) {
        const C theirs = block.from_lane_xor(high, mask);
        high = theirs > high ? theirs : high;
      }
      const C from = high == kNoScore<C> ? C(0) : high;
      const C factor = top[r] == high ? C(1) : top[r] == kNoScore<C> ? C(0) : std::exp(top[r] - from);
      C sum = 0;
      DTENSOR_UNROLL for (int c = 0; c < kColumnsEach; ++c) {
        scores[r][c] = std::exp(scores[r][c] - from);
        sum += scores[r][c];
      }
      for (int mask = kSide / 2; mask > 0; mask /= 2) sum += block.from_lane_xor(sum, mask);
      total[r] = total[r] * factor + sum;
      top[r] = high;
      DTENSOR_UNROLL for (int c = 0; c < kWide; ++c) sums[r][c] *= factor;
    }
  }

  // The weights that the forward pass had, or what the scores' gradients are.
  DTENSOR_DEVICE void weigh(const Block& block, const Work& w, std::int64_t other, Scores& scores, const Scores& products) const {
    const std::int64_t row = w.first + block.thread / kSide * kRowsEach, column = other + block.thread % kSide * kColumnsEach;
    DTENSOR_UNROLL for (int r = 0; r < kRowsEach; ++r) DTENSOR_UNROLL for (int c = 0; c < kColumnsEach; ++c) {
      const std::int64_t i = of_queries(part) ? row + r : column + c;
      C weight = 0;
      if (i < p.t) {
        const C lse =
            slopes.logsumexp.at<C>(slopes.logsumexp.strides[1] * w.batch + slopes.logsumexp.strides[2] * w.head + slopes.logsumexp.strides[3] * i);
        if (lse != kNoScore<C>) weight = std::exp(scores[r][c] - lse);
        if constexpr (kSlopes) weight *= products[r][c] - static_cast<const C*>(slopes.dots)[(w.batch * p.h + w.head) * p.t + i];
      }
      scores[r][c] = weight;
    }
  }

  DTENSOR_DEVICE void finish(const Block& block, const Work& w, const C (&sums)[kRowsEach][kWide], const C (&top)[kRowsEach],
                             const C (&total)[kRowsEach]) const {
    const std::int64_t head = of_queries(part) ? (w.keys_part * p.b + w.batch) * p.h + w.head : w.batch * p.g + w.group;
    DTENSOR_UNROLL for (int r = 0; r < kRowsEach; ++r) {
      const std::int64_t i = w.first + block.thread / kSide * kRowsEach + r, row = head * rows() + i;
      if (i >= rows()) continue;
      C factor = kSlopes ? static_cast<C>(p.scale) : C(1);
      if constexpr (part == Part::out) {
        factor = total[r] == C(0) ? C(0) : C(1) / total[r];
        if (w.slice == 0 && block.thread % kSide == 0) static_cast<C*>(logsumexp)[row] = total[r] == C(0) ? kNoScore<C> : top[r] + std::log(total[r]);
      }
      DTENSOR_UNROLL for (int c = 0; c < kWide; ++c) if (const std::int64_t x = column_of(block, w, c); x < width())
          result.put(row * width() + x, sums[r][c] * factor);
    }
  }
};

template <class C, Part part>
void make_part(const char* name, const AttentionProblem& p, const KeyParts& parts, const AttentionSlopes& slopes, const EarlierAttention& earlier,
               const AttentionResult& result, void* logsumexp, Stream stream) {
  const std::int64_t width = part == Part::out || part == Part::value ? p.e : p.d, rows = of_queries(part) ? p.t : p.s;
  const auto run = [&]<int kWidth>(std::integral_constant<int, kWidth>) {
    using Kernel = AttentionPart<C, kWidth, part>;
    const std::int64_t blocks = (rows + kRows - 1) / kRows, slices = width <= kWidth ? 1 : (width + kWidth - 1) / kWidth;
    launch_blocks(name, p.b * (of_queries(part) ? p.h : p.g) * blocks * slices * parts.count, kThreads, sizeof(typename Kernel::Memory), stream,
                  Kernel{p, parts, slopes, earlier, result, logsumexp, blocks, slices, in_packs(p.query, 4), in_packs(p.key, 4), in_packs(p.value, 4),
                         slopes.grad.data != nullptr && in_packs(slopes.grad, 4)});
  };
  if constexpr (sizeof(C) == 4) {
    if (width > 64) return run(std::integral_constant<int, 128>());
  }
  run(std::integral_constant<int, 64>());
}

template <class F>
void visit_sums(Dtype dtype, const F& f) {
  dtype == Dtype::f64 ? f(std::type_identity<double>()) : f(std::type_identity<float>());
}
AttentionResult result_of(const Tensor& t, bool add = false) { return {static_cast<std::byte*>(t.raw()), t.dtype(), add}; }

void make_out(const AttentionProblem& p, int mma_rows, const KeyParts& parts, const EarlierAttention& earlier, const AttentionResult& out,
              void* logsumexp, Stream stream) {
  if (mma_rows > 0) return attention_mma(p, mma_rows, parts, earlier, out, static_cast<float*>(logsumexp), stream);
  visit_sums(p.query.dtype,
             [&]<class C>(std::type_identity<C>) { make_part<C, Part::out>("attention", p, parts, {}, earlier, out, logsumexp, stream); });
}

void attention(const cpu::AttentionCall& call, const Tensor& out, const Tensor& logsumexp) {
  if (logsumexp.numel() == 0) return;
  RankDevice& device = rank_device(out);
  if (library_attention(call, device, out, logsumexp)) return;
  const AttentionOnDevice problem(device, call);
  const AttentionProblem p = heads_as_queries(problem.get());
  const EarlierAttention earlier{call.logsumexp ? call.out.raw() : nullptr, call.logsumexp ? call.logsumexp.raw() : nullptr};
  const DeviceFacts& facts = device_facts(device.device.index);
  const int mma_rows = attention_mma_rows(p, facts.shared_per_block), rows = mma_rows > 0 ? mma_rows : kRows;
  const KeyParts parts = key_parts(p.b * p.h * ((p.t + rows - 1) / rows), p.s, facts.multiprocessors);
  if (parts.count == 1) return make_out(p, mma_rows, parts, earlier, result_of(out), logsumexp.raw(), device.current);
  const Dtype sums = logsumexp.dtype();
  const std::size_t each = static_cast<std::size_t>(parts.count) * static_cast<std::size_t>(info(sums).bytes);
  const Scratch outs(device, static_cast<std::size_t>(out.numel()) * each), sizes(device, static_cast<std::size_t>(logsumexp.numel()) * each);
  make_out(p, mma_rows, parts, {}, {outs.as<std::byte>(), sums}, sizes.as<void>(), device.current);
  combine_attention({outs.as<void>(), sizes.as<void>(), parts.count, logsumexp.numel(), p.e}, earlier, result_of(out), logsumexp.raw(), sums,
                    device.current);
}

void attention_backward(const cpu::AttentionCall& call, const Tensor& grad, const Tensor& out, const Tensor& logsumexp,
                        const cpu::AttentionGradients& gradients) {
  if (logsumexp.numel() == 0) {
    gradients.key.fill_(0);
    gradients.value.fill_(0);
    return;
  }
  RankDevice& device = rank_device(grad);
  const AttentionOnDevice problem(device, call);
  const AttentionProblem& p = problem.get();
  const Scratch dots(device, static_cast<std::size_t>(logsumexp.numel()) * sizeof(double));
  attention_dots(p, grad, out, dots.as<void>(), device.current);
  const AttentionSlopes slopes{attention_operand(grad), attention_operand(logsumexp), dots.as<void>()};
  const AttentionResult query = result_of(gradients.query, gradients.add_to_query), key = result_of(gradients.key),
                        value = result_of(gradients.value);
  if (attention_backward_by_mma(p, device_facts(device.device.index).shared_per_block))
    return attention_backward_mma(p, slopes, query, key, value, device.current);
  visit_sums(call.query.dtype(), [&]<class C>(std::type_identity<C>) {
    make_part<C, Part::query>("attention query gradient", p, {}, slopes, {}, query, nullptr, device.current);
    make_part<C, Part::key>("attention key gradient", p, {}, slopes, {}, key, nullptr, device.current);
    make_part<C, Part::value>("attention value gradient", p, {}, slopes, {}, value, nullptr, device.current);
  });
}

}  // namespace

void install_attention() {
  kernels::attention.cuda = attention;
  kernels::attention_backward.cuda = attention_backward;
}

}  // namespace dtensor::local::cuda
