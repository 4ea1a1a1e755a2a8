// SPDX-License-Identifier: Apache-2.0
// Few queries and many keys: each block of threads takes a part of the keys, and what the parts give is put together here.
#include <algorithm>
#include <cmath>

#include "local/cuda/attention_problem.h"
#include "local/cuda/launch.h"

namespace dtensor::local::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr std::int64_t kLeastKeys = 4 * kKeyTile;  // of a part: its block begins and ends with work that does not depend on their number

// A block makes kWarp columns of a row; each warp adds up every kWarps-th part. What other keys gave counts as one part more.
template <class C>
struct CombineParts {
  AttentionParts from;
  EarlierAttention earlier;
  AttentionResult out;
  C* logsumexp;
  std::int64_t slices;

  DTENSOR_DEVICE std::int64_t count() const { return from.parts + (earlier.logsumexp != nullptr ? 1 : 0); }
  DTENSOR_DEVICE C logsumexp_of(std::int64_t part, std::int64_t row) const {
    if (part == from.parts) return static_cast<const C*>(earlier.logsumexp)[row];
    return static_cast<const C*>(from.logsumexp)[part * from.rows + row];
  }
  DTENSOR_DEVICE C out_of(std::int64_t part, std::int64_t row, std::int64_t x) const {
    if (part == from.parts) return static_cast<const C*>(earlier.out)[row * from.e + x];
    return static_cast<const C*>(from.out)[(part * from.rows + row) * from.e + x];
  }

  DTENSOR_DEVICE void operator()(const Block& block) const {
    std::int64_t row = block.index;
    const std::int64_t slice = cut_last(row, slices), x = slice * kWarp + block.lane();
    C top = kNoScore<C>;
    for (std::int64_t i = block.thread; i < count(); i += kThreads) top = std::fmax(top, logsumexp_of(i, row));
    top = reduce_block(block, top, kNoScore<C>, [](C a, C b) { return std::fmax(a, b); });
    const bool none = top == kNoScore<C>;
    C total = 0;
    for (std::int64_t i = block.thread; i < count() && !none; i += kThreads) total += std::exp(logsumexp_of(i, row) - top);
    total = reduce_block(block, total, C(0), [](C a, C b) { return a + b; });
    C sum = 0;
    for (std::int64_t i = block.warp(); i < count() && !none && x < from.e; i += kWarps) {
      const C weight = std::exp(logsumexp_of(i, row) - top);
      if (weight != 0) sum += weight * out_of(i, row, x);
    }
    block.sync();
    C* const sums = block.shared<C>();
    sums[block.thread] = sum;
    block.sync();
    if (block.warp() != 0) return;
    for (int w = 1; w < kWarps; ++w) sum += sums[w * kWarp + block.lane()];
    if (x < from.e) out.put(row * from.e + x, none ? C(0) : sum / total);
    if (slice == 0 && block.lane() == 0) logsumexp[row] = none ? top : top + std::log(total);
  }
};

}  // namespace

KeyParts key_parts(std::int64_t blocks, std::int64_t keys, int multiprocessors) {
  if (2 * blocks >= multiprocessors || blocks == 0) return {};
  const std::int64_t most = std::min((keys + kLeastKeys - 1) / kLeastKeys, 2 * multiprocessors / blocks);
  if (most <= 1) return {};
  const std::int64_t tiles = (keys + kKeyTile - 1) / kKeyTile, each = (tiles + most - 1) / most * kKeyTile;
  return {(keys + each - 1) / each, each};
}

AttentionProblem heads_as_queries(const AttentionProblem& p) {
  if (p.t != 1 || p.heads_each <= 1 || p.kv_heads != nullptr || p.seen_lists != nullptr) return p;
  AttentionProblem q = p;
  q.h = p.g, q.t = p.heads_each, q.heads_each = 1;
  q.s = p.seen(0), q.seen_first = q.s;
  for (AttentionOperand* o : {&q.query, &q.mask}) {
    o->strides[2] = o->strides[1];
    o->strides[1] *= p.heads_each;
  }
  return q;
}

void combine_attention(const AttentionParts& parts, const EarlierAttention& earlier, const AttentionResult& out, void* logsumexp, Dtype sums,
                       Stream stream) {
  const std::int64_t slices = std::max<std::int64_t>(1, (parts.e + kWarp - 1) / kWarp);
  const auto run = [&]<class C>(std::type_identity<C>) {
    launch_blocks("attention parts", parts.rows * slices, kThreads, kThreads * sizeof(C), stream,
                  CombineParts<C>{parts, earlier, out, static_cast<C*>(logsumexp), slices});
  };
  sums == Dtype::f64 ? run(std::type_identity<double>()) : run(std::type_identity<float>());
}

}  // namespace dtensor::local::cuda
