// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/attention_problem.h"

#include "local/cuda/launch.h"

namespace dtensor::local::cuda {
namespace {

// A block per group of queries, a thread per query.
struct CountSeen {
  Numbers rows, columns;
  bool numbered;
  std::int64_t offset, t, s;
  std::int64_t *seen, *most;
  DTENSOR_DEVICE void operator()(const Block& block) const {
    const std::int64_t i = block.index * kQueryGroup + block.thread;
    const std::int64_t mine = i >= t ? 0 : up_to(rows[i] + offset);
    if (i < t) seen[i] = mine;
    const auto greater = [](std::int64_t a, std::int64_t b) { return a > b ? a : b; };
    const std::int64_t high = reduce_block(block, mine, std::int64_t{0}, greater);
    const std::int64_t low = -reduce_block(block, i < t ? -mine : -s, -s, greater);
    if (block.thread == 0) {
      most[block.index] = high;
      most[block.blocks + block.index] = low;
    }
  }
  // Keys whose number is at most `last`.
  DTENSOR_DEVICE std::int64_t up_to(std::int64_t last) const {
    if (!numbered) return last < 0 ? 0 : last < s ? last + 1 : s;
    std::int64_t low = 0, high = s;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      if (columns[middle] <= last) low = middle + 1;
      else high = middle;
    }
    return low;
  }
};

// A warp per query.
template <class C>
struct DotRows {
  AttentionOperand grad, out;
  std::int64_t h, t, e, rows;
  C* dots;
  DTENSOR_DEVICE void operator()(const Block& block) const {
    std::int64_t rest = block.index * block.warps() + block.warp();
    const std::int64_t row = rest < rows ? rest : rows - 1;  // whole warps meet
    rest = row;
    const std::int64_t i = cut_last(rest, t), head = cut_last(rest, h);
    const std::int64_t a = grad.matrix(rest, head) + i * grad.strides[2], b = out.matrix(rest, head) + i * out.strides[2];
    C sum = 0;
    for (std::int64_t x = block.lane(); x < e; x += kWarp) sum += grad.at<C>(a + x * grad.strides[3]) * out.at<C>(b + x * out.strides[3]);
    for (int mask = kWarp / 2; mask > 0; mask /= 2) sum += block.from_lane_xor(sum, mask);
    if (block.lane() == 0) dots[row] = sum;
  }
};

// How many query heads, one after the other, read each key head; 0: they do not.
std::int64_t regular_heads(std::span<const std::int64_t> heads) {
  std::int64_t each = 0;
  while (each < static_cast<std::int64_t>(heads.size()) && heads[static_cast<std::size_t>(each)] == 0) ++each;
  for (std::size_t h = 0; h < heads.size() && each > 0; ++h)
    if (heads[h] != static_cast<std::int64_t>(h) / each) each = 0;
  return each;
}

}  // namespace

AttentionOnDevice::AttentionOnDevice(RankDevice& device, const cpu::AttentionCall& call) {
  const Shape &q = call.query.shape(), &k = call.key.shape();
  problem_ = {.b = q[0],
              .h = q[1],
              .g = k[1],
              .t = q[2],
              .s = k[2],
              .d = q[3],
              .e = call.value.shape()[3],
              .scale = call.scale,
              .query = attention_operand(call.query),
              .key = attention_operand(call.key),
              .value = attention_operand(call.value),
              .mask = call.mask ? attention_operand(call.mask) : AttentionOperand{},
              .heads_each = regular_heads(call.kv_heads),
              .seen_first = k[2]};
  if (problem_.heads_each == 0) problem_.kv_heads = heads_.emplace(device, call.kv_heads).data();
  if (!call.causal) return;
  const DeviceNumbers rows(device, call.rows), columns(device, call.columns);
  const Numbers& r = rows.get();
  if (call.columns.empty() && r.runs == 1 && (q[2] == 1 || r.run[0].step == 1)) {
    problem_.seen_first = r.run[0].first + call.offset + 1;
    return;
  }
  const std::int64_t groups = problem_.groups(), numbers = q[2] + 2 * groups;
  auto* seen = seen_.emplace(device, static_cast<std::size_t>(numbers) * sizeof(std::int64_t)).as<std::int64_t>();
  problem_.seen_lists = seen;
  launch_blocks("attention seen", groups, kQueryGroup, kWarp * sizeof(std::int64_t), device.current,
                CountSeen{r, columns.get(), !call.columns.empty(), call.offset, q[2], k[2], seen, seen + q[2]});
}

void attention_dots(const AttentionProblem& p, const Tensor& grad, const Tensor& out, void* dots, Stream stream) {
  constexpr int kThreads = 256;
  const std::int64_t rows = p.b * p.h * p.t, blocks = (rows + kThreads / kWarp - 1) / (kThreads / kWarp);
  const auto run = [&]<class C>(std::type_identity<C>) {
    launch_blocks("attention dots", blocks, kThreads, 0, stream,
                  DotRows<C>{attention_operand(grad), attention_operand(out), p.h, p.t, p.e, rows, static_cast<C*>(dots)});
  };
  p.query.dtype == Dtype::f64 ? run(std::type_identity<double>()) : run(std::type_identity<float>());
}

}  // namespace dtensor::local::cuda
